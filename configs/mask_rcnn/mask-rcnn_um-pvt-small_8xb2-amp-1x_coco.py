# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
_base_ = ['./mask-rcnn_um-swin-tiny_8xb2-amp-1x_coco.py']
model = dict(
    backbone=dict(type='mmeffmae.UMPVT', arch='small'),
    neck=dict(in_channels=[64, 128, 320, 512]))
