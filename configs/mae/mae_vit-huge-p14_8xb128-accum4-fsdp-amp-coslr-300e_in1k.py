# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet; FSDP was tried with two CPU processes alone.
_base_ = [
    '../_base_/models/mae_vit-base-p16.py',
    '../_base_/datasets/imagenet_bs512_mae.py',
    '../_base_/schedules/mae_adamw.py',
    '../_base_/schedules/coslr_300e.py',
    '../_base_/fsdp_runtime.py',
]
model = dict(
    backbone=dict(arch='h', patch_size=14, with_cp=True),
    neck=dict(with_cp=True))
train_dataloader = dict(batch_size=128)
optim_wrapper = dict(accumulative_counts=4)
