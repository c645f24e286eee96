# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# From UM-MAE's encoder: boxes of CamVid at half size on one CPU core. Strides 4, 8
# and 16 are its last three stages, 32 comes from a convolution.
_base_ = ['./gfl_vit-192x6-p8_1xb4-coslr-4e_camvid-240x180.py']
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmeffmae.UMSwin',
        arch=dict(
            embed_dims=32,
            depths=[2, 2, 2, 2],
            num_heads=[1, 2, 4, 8],
            position_dims=32),
        img_size=64,
        patch_size=8,
        out_indices=(1, 2, 3),
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/um_mae_quick/backbone.pth',
            prefix='backbone.')),
    neck=dict(
        _delete_=True,
        type='FPN',
        in_channels=[64, 128, 256],
        out_channels=64,
        norm_cfg=dict(type='GN', num_groups=8),
        add_extra_convs='on_output',
        num_outs=4))
