# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# From CLMAE's encoder: boxes of CamVid at half size on one CPU core.
_base_ = ['./gfl_vit-192x6-p8_1xb4-coslr-4e_camvid-240x180.py']
model = dict(
    backbone=dict(
        type='mmeffmae.MaskedViT',
        stem=dict(type='mmeffmae.ConvStem', kind='overlap2'),
        ffn=dict(type='mmeffmae.ConvFFN'),
        share_attn=1,
        init_cfg=dict(checkpoint='work_dirs/clmae_quick/epoch_10.pth')))
