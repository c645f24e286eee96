# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# For 128 px: 16x16 patches, as Swin-T at 256 px, at half its width, and a
# decoder that takes as large a share of the work as the published one.
_base_ = './um_swin-32x8-p8.py'
model = dict(
    backbone=dict(arch=dict(embed_dims=48, depths=[2, 2, 6, 2]), img_size=128),
    neck=dict(decoder_embed_dim=256, decoder_num_heads=8))
