# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# From CLMAE's encoder: the built-in mini scenes on two CPU cores.
_base_ = ['./htc_quick.py']
model = dict(
    backbone=dict(
        type='mmeffmae.MaskedViT',
        stem=dict(type='mmeffmae.ConvStem', kind='overlap2'),
        ffn=dict(type='mmeffmae.ConvFFN'),
        share_attn=1,
        init_cfg=dict(checkpoint='work_dirs/clmae_quick/epoch_10.pth')))
