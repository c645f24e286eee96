# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# UPerNet on UM-MAE's Swin-T for ADE20K. The heads take the four stages as they
# are; the official code maps each to 768 channels by a linear layer first, which
# the heads' own first convolutions do.
_base_ = './upernet_vit-base-p16.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmeffmae.UMSwin',
        arch='tiny',
        img_size=256,
        patch_size=16,
        drop_path_rate=0.1,
        out_indices=(0, 1, 2, 3),
        init_cfg=dict(
            type='Pretrained', checkpoint='backbone.pth',
            prefix='backbone.')),
    neck=None,
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384))
