# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
_base_ = [
    '../_base_/models/mae_vit-tiny-p8.py',
    '../_base_/datasets/imagenette112.py',
    '../_base_/schedules/mae_adamw.py',
    '../_base_/schedules/coslr_200e.py',
    '../_base_/pretrain_runtime.py',
]
model = dict(
    neck=dict(decoder_depth=2), masking=dict(mask_ratio=0.9))
# An epoch is less than twenty steps.
default_hooks = dict(checkpoint=dict(interval=10))
