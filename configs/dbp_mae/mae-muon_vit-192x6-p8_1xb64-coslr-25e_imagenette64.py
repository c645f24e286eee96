# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Imagenette photographs on one CPU core: MAE with Muon, a control of DBP-MAE.
_base_ = [
    '../_base_/models/mae_vit-192x6-p8.py',
    '../_base_/datasets/imagenette_64.py',
    '../_base_/schedules/mae_muon.py',
    '../_base_/schedules/coslr_25e.py',
    '../_base_/pretrain_runtime.py',
]
# Short runs of few images a step want a higher rate than 4,096 images do.
optim_wrapper = dict(optimizer=dict(lr=1e-3))
auto_scale_lr = dict(base_batch_size=64)
