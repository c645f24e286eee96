# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
# CLMAE's encoder, which loads a checkpoint of pre-training as it is.
_base_ = ['./htcpp_vit-base-p16_16xb1-amp-3x_coco.py']
model = dict(
    backbone=dict(
        stem=dict(type='mmeffmae.ConvStem', kind='overlap2'),
        ffn=dict(type='mmeffmae.ConvFFN'),
        share_attn=1))
