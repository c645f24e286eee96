# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
_base_ = [
    '../_base_/models/mae_vit-base-p16.py',
    '../_base_/datasets/imagenet_bs512_mae.py',
    '../_base_/schedules/mae_adamw.py',
    '../_base_/schedules/coslr_50e.py',
    '../_base_/pretrain_runtime.py',
]
# Every image is seen as four masked views, so 64 images a GPU hold what 256
# do in MAE; accumulation makes the 4,096 images of a step.
model = dict(
    backbone=dict(arch='l', patch_size=16),
    head=dict(consistency=dict(type='mmeffmae.SelfConsistencyLoss')),
    masking=dict(
        _delete_=True, type='mmeffmae.ParallelMasking', num_parts=4))
train_dataloader = dict(batch_size=64)
optim_wrapper = dict(accumulative_counts=8)
