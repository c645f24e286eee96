# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
_base_ = ['./htcpp_um-swin-tiny_16xb1-amp-3x_coco.py']
model = dict(
    backbone=dict(type='mmeffmae.UMPVT', arch='small'),
    neck=[
        dict(_base_.model.neck[0], embed_dims=512, num_heads=16),
        dict(_base_.model.neck[1], in_channels=[64, 128, 320, 512])
    ])
