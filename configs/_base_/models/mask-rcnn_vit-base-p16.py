# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Mask R-CNN on a plain ViT-B: windows with four global layers and a pyramid of
# the last map. Any ViT-shaped checkpoint fits: MAE, EMAE, ...
_base_ = './mask-rcnn.py'
model = dict(
    backbone=dict(
        type='mmeffmae.WindowedViT',
        arch='b',
        img_size=224,  # of pre-training; the table is resized to each image
        patch_size=16,
        window_size=14,
        final_norm=False,
        drop_path_rate=0.1,
        init_cfg=dict(
            type='Pretrained', checkpoint='backbone.pth',
            prefix='backbone.')),
    neck=dict(
        type='mmeffmae.SimpleFeaturePyramid',
        in_channels=768,
        out_channels=256,
        num_outs=5))
