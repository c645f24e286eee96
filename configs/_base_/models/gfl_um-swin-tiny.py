# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Generalized Focal Loss (https://arxiv.org/abs/2006.04388) on UM-MAE's Swin-T.
# The published FPN starts from stride 8, so the first stage has no output.
model = dict(
    type='GFL',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
        # Crops may be smaller than the batch's 1024 px.
        batch_augments=[
            dict(type='BatchFixedSizePad', size=(1024, 1024), pad_mask=False)
        ]),
    backbone=dict(
        type='mmeffmae.UMSwin',
        arch='tiny',
        img_size=256,
        patch_size=16,
        drop_path_rate=0.1,
        out_indices=(1, 2, 3),
        init_cfg=dict(
            type='Pretrained', checkpoint='', prefix='backbone.')),
    neck=[
        # With the norm of each output: what the official code calls up.
        dict(
            type='ChannelMapper',
            in_channels=[192, 384, 768],
            out_channels=768,
            kernel_size=1,
            act_cfg=None,
            init_cfg=dict(type='TruncNormal', layer='Conv2d', std=0.02)),
        dict(
            type='FPN',
            in_channels=[768] * 3,
            out_channels=256,
            add_extra_convs='on_output',
            num_outs=5,
            norm_cfg=dict(type='SyncBN', requires_grad=True))
    ],
    bbox_head=dict(
        type='GFLHead',
        num_classes=80,
        in_channels=256,
        stacked_convs=4,
        feat_channels=256,
        anchor_generator=dict(
            type='AnchorGenerator',
            ratios=[1.0],
            octave_base_scale=8,
            scales_per_octave=1,
            strides=[8, 16, 32, 64, 128]),
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
        score_thr=0.05,
        nms=dict(type='nms', iou_threshold=0.6),
        max_per_img=100))
