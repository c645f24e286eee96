# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
_base_ = ['./upernet_um-swin-tiny_8xb2-amp-160k_ade20k-512x512.py']
model = dict(
    backbone=dict(type='mmeffmae.UMPVT', arch='small'),
    decode_head=dict(in_channels=[64, 128, 320, 512]),
    auxiliary_head=dict(in_channels=320))
