# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# HTC++ on UM-MAE's Swin-T with an FPN of its four stages.
_base_ = './htcpp.py'
model = dict(
    backbone=dict(
        type='mmeffmae.UMSwin',
        arch='tiny',
        img_size=256,
        patch_size=16,
        drop_path_rate=0.1,
        out_indices=(0, 1, 2, 3),
        with_cp=True,
        init_cfg=dict(
            type='Pretrained', checkpoint='backbone.pth',
            prefix='backbone.')),
    neck=[
        dict(
            type='mmeffmae.GlobalAttention',
            embed_dims=768,
            num_heads=24,
            with_cp=True),
        dict(
            type='FPN',
            in_channels=[96, 192, 384, 768],
            out_channels=256,
            num_outs=5)
    ])
