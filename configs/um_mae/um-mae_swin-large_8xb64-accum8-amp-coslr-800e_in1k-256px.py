# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
_base_ = [
    '../_base_/models/um_swin-tiny-p16.py',
    '../_base_/datasets/imagenet_256_mae.py',
    '../_base_/schedules/mae_adamw.py',
    '../_base_/schedules/coslr_800e.py',
    '../_base_/pretrain_runtime.py',
]
model = dict(backbone=dict(arch='large'), neck=dict(decoder_depth=8))
train_dataloader = dict(batch_size=64)
optim_wrapper = dict(accumulative_counts=8)
