# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Imagenette photographs on one CPU core, about 25 minutes.
_base_ = [
    '../_base_/models/mae_vit-192x6-p8.py',
    '../_base_/datasets/imagenette_64.py',
    '../_base_/schedules/mae_adamw.py',
    '../_base_/schedules/coslr_25e.py',
    '../_base_/pretrain_runtime.py',
]
model = dict(
    backbone=dict(
        stem=dict(type='mmeffmae.ConvStem', kind='overlap2'),
        ffn=dict(type='mmeffmae.ConvFFN'),
        share_attn=1))
# Short runs of few images a step want a higher rate than 4,096 images do.
optim_wrapper = dict(
    optimizer=dict(lr=1e-3), paramwise_cfg=dict(dwconv_decay_mult=0.0))
auto_scale_lr = dict(base_batch_size=64)
