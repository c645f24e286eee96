# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
_base_ = [
    '../_base_/models/mae_vit-base-p16.py',
    '../_base_/datasets/imagenet_bs512_mae.py',
    '../_base_/schedules/mae_adamw.py',
    '../_base_/schedules/coslr_200e_warmup10.py',
    '../_base_/pretrain_runtime.py',
]
model = dict(
    neck=dict(decoder_depth=2),
    masking=dict(
        _delete_=True, type='mmeffmae.UniformMasking', hidden_ratio=0.25))
train_dataloader = dict(batch_size=128)
optim_wrapper = dict(accumulative_counts=4)
