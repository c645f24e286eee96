# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
_base_ = [
    '../_base_/models/um_swin-tiny-p16.py',
    '../_base_/datasets/imagenet_256_mae.py',
    '../_base_/schedules/mae_adamw.py',
    '../_base_/schedules/coslr_200e_warmup10.py',
    '../_base_/pretrain_runtime.py',
]
model = dict(backbone=dict(type='mmeffmae.UMPVT', arch='small'))
optim_wrapper = dict(accumulative_counts=4)
