# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Imagenette photographs on one CPU core: as many views as 25 epochs of MAE.
_base_ = [
    '../_base_/models/mae_vit-192x6-p8.py',
    '../_base_/datasets/imagenette_64.py',
    '../_base_/schedules/mae_adamw.py',
    '../_base_/schedules/coslr_6e.py',
    '../_base_/pretrain_runtime.py',
]
model = dict(
    head=dict(consistency=dict(type='mmeffmae.SelfConsistencyLoss')),
    masking=dict(
        _delete_=True, type='mmeffmae.ParallelMasking', num_parts=4))
# Short runs of few images a step want a higher rate than 4,096 images do.
optim_wrapper = dict(optimizer=dict(lr=1e-3))
auto_scale_lr = dict(base_batch_size=64)
