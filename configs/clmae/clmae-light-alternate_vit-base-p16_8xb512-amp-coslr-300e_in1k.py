# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
_base_ = ['./clmae-light_vit-base-p16_8xb512-amp-coslr-300e_in1k.py']
# The convolution stands in every second feed-forward layer only.
model = dict(backbone=dict(
    ffn=[dict(type='mmeffmae.ConvFFN'), None]))
