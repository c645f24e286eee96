# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
_base_ = [
    '../_base_/models/pcae_vit-base-p16.py',
    '../_base_/datasets/imagenet_bs512_mae.py',
    '../_base_/schedules/mae_adamw.py',
    '../_base_/schedules/coslr_300e.py',
    '../_base_/default_runtime.py',
]
# The stochastic depth is the public code's; the paper's is unknown.
model = dict(
    backbone=dict(arch='h', patch_size=14, drop_path_rate=0.25),
    neck=dict(drop_path_rate=0.25))
