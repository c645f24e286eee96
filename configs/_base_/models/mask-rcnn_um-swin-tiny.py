# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Mask R-CNN on UM-MAE's Swin-T with an FPN of its four stages.
_base_ = './mask-rcnn.py'
model = dict(
    backbone=dict(
        type='mmeffmae.UMSwin',
        arch='tiny',
        img_size=256,
        patch_size=16,
        drop_path_rate=0.1,
        out_indices=(0, 1, 2, 3),
        init_cfg=dict(
            type='Pretrained', checkpoint='backbone.pth',
            prefix='backbone.')),
    neck=dict(
        type='FPN',
        in_channels=[96, 192, 384, 768],
        out_channels=256,
        norm_cfg=dict(type='mmpretrain.LN2d'),
        num_outs=5))
