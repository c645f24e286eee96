# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# The built-in mini scenes on two CPU cores, about two minutes.
_base_ = [
    '../_base_/models/pcae_vit-192x6-p8.py',
    '../_base_/datasets/mini.py',
    '../_base_/schedules/mae_adamw.py',
    '../_base_/schedules/coslr_quick.py',
    '../_base_/default_runtime.py',
]
# The teacher stays near its start in so few steps, and the log says so. A faster
# one, or a higher rate, collapses on these drawings (target_cos_batch).
train_dataloader = dict(batch_size=32)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
auto_scale_lr = dict(base_batch_size=32)
