# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# HTC++ on a plain ViT-B: windows with four global layers, and a pyramid of the
# last map. Any ViT-shaped checkpoint fits: MAE, EMAE, ...
_base_ = './htcpp.py'
model = dict(
    backbone=dict(
        type='mmeffmae.WindowedViT',
        arch='b',
        img_size=224,  # of pre-training; the table is resized to each image
        patch_size=16,
        window_size=14,
        final_norm=False,
        drop_path_rate=0.1,
        with_cp=True,
        init_cfg=dict(
            type='Pretrained', checkpoint='backbone.pth',
            prefix='backbone.')),
    neck=[
        dict(
            type='mmeffmae.GlobalAttention',
            embed_dims=768,
            num_heads=12,
            with_cp=True),
        dict(
            type='mmeffmae.SimpleFeaturePyramid',
            in_channels=768,
            out_channels=256,
            num_outs=5)
    ])
