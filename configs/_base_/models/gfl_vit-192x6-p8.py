# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Generalized Focal Loss (https://arxiv.org/abs/2006.04388) on half a ViT-Ti, at a
# quarter of the published width: for two CPU cores.
_width = 64
model = dict(
    type='GFL',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32),
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
    neck=[
        # Strides 4, 8, 16 and 32 from the stride of the patches, 8.
        dict(
            type='mmseg.Feature2Pyramid',
            embed_dim=192,
            rescales=[2, 1, 0.5, 0.25]),
        dict(
            type='FPN',
            in_channels=[192] * 4,
            out_channels=_width,
            norm_cfg=dict(type='GN', num_groups=8),
            num_outs=4)
    ],
    bbox_head=dict(
        type='GFLHead',
        num_classes=4,
        in_channels=_width,
        stacked_convs=2,
        feat_channels=_width,
        norm_cfg=dict(type='GN', num_groups=8),
        anchor_generator=dict(
            type='AnchorGenerator',
            ratios=[1.0],
            octave_base_scale=4,
            scales_per_octave=1,
            strides=[4, 8, 16, 32]),
        loss_cls=dict(
            type='QualityFocalLoss', use_sigmoid=True, beta=2.0,
            loss_weight=1.0),
        loss_dfl=dict(type='DistributionFocalLoss', loss_weight=0.25),
        reg_max=16,
        loss_bbox=dict(type='GIoULoss', loss_weight=2.0)),
    train_cfg=dict(
        assigner=dict(type='ATSSAssigner', topk=9),
        allowed_border=-1,
        pos_weight=-1,
        debug=False),
    test_cfg=dict(
        nms_pre=1000,
        min_bbox_size=0,
        score_thr=0.01,
        nms=dict(type='nms', iou_threshold=0.6),
        max_per_img=100))
