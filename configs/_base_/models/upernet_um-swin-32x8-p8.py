# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# The segmentor of upernet_vit-192x6-p8.py on a small Swin of UM-MAE, whose last
# three stages have strides 4, 8 and 16.
_base_ = './upernet_vit-192x6-p8.py'
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
    neck=None,
    decode_head=dict(in_channels=[64, 128, 256], in_index=[0, 1, 2]))
