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
model = dict(head=dict(norm_pix=False))
# Short runs of few images a step want a higher rate than 4,096 images do.
train_dataloader = dict(batch_size=32)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
auto_scale_lr = dict(base_batch_size=32)
