# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# The built-in mini scenes on two CPU cores, about two minutes.
_base_ = [
    '../_base_/models/mae_vit-192x6-p8.py',
    '../_base_/datasets/mini.py',
    '../_base_/schedules/mae_adamw.py',
    '../_base_/schedules/coslr_quick.py',
    '../_base_/pretrain_runtime.py',
]
model = dict(
    head=dict(consistency=dict(type='mmeffmae.SelfConsistencyLoss')),
    masking=dict(
        _delete_=True, type='mmeffmae.ParallelMasking', num_parts=4))
