# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# The detector of htc_vit-192x6-p8.py on a small Swin of UM-MAE: strides 4, 8 and
# 16 are its last three stages, 32 and 64 come from two convolutions.
_base_ = './htc_vit-192x6-p8.py'
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
        num_outs=5))
