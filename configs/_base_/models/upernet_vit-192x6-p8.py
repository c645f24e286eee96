# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# UPerNet (https://arxiv.org/abs/1807.10221) on half a ViT-Ti, at an eighth of
# the usual width: for two CPU cores.
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        size=(128, 128),
        test_cfg=dict(size_divisor=32)),
    backbone=dict(
        type='mmpretrain.VisionTransformer',
        arch=dict(
            embed_dims=192,
            num_layers=6,
            num_heads=3,
            feedforward_channels=768),
        img_size=128,
        patch_size=8,
        out_type='featmap',
        out_indices=(1, 2, 3, 5),
        final_norm=False,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/quickstart/pretrain/backbone.pth',
            prefix='backbone.')),
    # Strides 4, 8, 16 and 32 from the stride of the patches, 8.
    neck=dict(
        type='Feature2Pyramid', embed_dim=192, rescales=[2, 1, 0.5, 0.25]),
    decode_head=dict(
        type='UPerHead',
        in_channels=[192] * 4,
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=64,
        dropout_ratio=0.1,
        num_classes=12,
        norm_cfg=dict(type='GN', num_groups=8),
        align_corners=False,
        loss_decode=dict(
            type='CrossEntropyLoss', use_sigmoid=False, avg_non_ignore=True)),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
