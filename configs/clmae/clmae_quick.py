# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# The built-in mini scenes on two CPU cores, about two minutes.
_base_ = [
    '../_base_/models/mae_vit-192x6-p8.py',
    '../_base_/datasets/mini.py',
    '../_base_/schedules/mae_adamw.py',
    '../_base_/schedules/coslr_quick.py',
    '../_base_/pretrain_runtime.py',
]
# Plain pixels: in so few steps the drawings' flat patches, normalised, teach
# nothing.
model = dict(
    backbone=dict(
        stem=dict(type='mmeffmae.ConvStem', kind='overlap2'),
        ffn=dict(type='mmeffmae.ConvFFN'),
        share_attn=1),
    head=dict(norm_pix=False))
train_dataloader = dict(batch_size=32)
# Short runs of few images a step want a higher rate than 4,096 images do.
optim_wrapper = dict(
    optimizer=dict(lr=2e-3), paramwise_cfg=dict(dwconv_decay_mult=0.0))
auto_scale_lr = dict(base_batch_size=32)
