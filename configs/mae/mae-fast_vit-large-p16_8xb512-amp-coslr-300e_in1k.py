# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
_base_ = [
    '../_base_/models/mae_vit-base-p16.py',
    '../_base_/datasets/imagenet_bs512_mae.py',
    '../_base_/schedules/mae_adamw.py',
    '../_base_/schedules/coslr_300e.py',
    '../_base_/pretrain_runtime.py',
]
# Nine patches in ten masked and a light decoder: the baseline that any
# faster method has to beat ("Masked Autoencoders are Secretly Efficient
# Learners", CVPR workshops 2024).
model = dict(
    backbone=dict(arch='l', patch_size=16),
    neck=dict(decoder_embed_dim=256, decoder_depth=2, decoder_num_heads=8),
    masking=dict(mask_ratio=0.9))
