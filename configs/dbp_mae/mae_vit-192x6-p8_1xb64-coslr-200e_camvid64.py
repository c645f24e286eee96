# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# CamVid's own photographs, 64 px crops, on one CPU core: a narrow domain.
_base_ = [
    '../_base_/models/mae_vit-192x6-p8.py',
    '../_base_/datasets/imagenette_64.py',
    '../_base_/schedules/mae_adamw.py',
    '../_base_/schedules/coslr_200e.py',
    '../_base_/pretrain_runtime.py',
]
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='mmeffmae.UnlabelledImages',
        data_root='{{$MMEFFMAE_DATA_ROOT:data}}/camvid/',
        data_prefix='images/train',
        pipeline=_base_.train_pipeline))
custom_hooks = []
# Short runs of few images a step want a higher rate than 4,096 images do.
optim_wrapper = dict(optimizer=dict(lr=1e-3))
auto_scale_lr = dict(base_batch_size=64)
# An epoch is less than twenty steps.
default_hooks = dict(checkpoint=dict(interval=10))
