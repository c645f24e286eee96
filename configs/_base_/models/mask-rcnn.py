# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Mask R-CNN with ViTDet's heads (https://arxiv.org/abs/2203.16527), layer norms in
# them, on any pyramid of 256 channels and strides 4 to 64: a config adds
# model.backbone and model.neck.
_width = 256
_norm = dict(type='mmpretrain.LN2d')
_rois = dict(
    type='SingleRoIExtractor',
    out_channels=_width,
    featmap_strides=[4, 8, 16, 32])

model = dict(
    type='MaskRCNN',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_mask=True,
        pad_size_divisor=32),
    rpn_head=dict(
        type='RPNHead',
        in_channels=_width,
        feat_channels=_width,
        num_convs=2,
        anchor_generator=dict(
            type='AnchorGenerator',
            scales=[8],
            ratios=[0.5, 1.0, 2.0],
            strides=[4, 8, 16, 32, 64]),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True),
        loss_bbox=dict(type='L1Loss')),
    roi_head=dict(
        type='StandardRoIHead',
        bbox_roi_extractor=dict(
            _rois, roi_layer=dict(type='RoIAlign', output_size=7)),
        bbox_head=dict(
            type='Shared4Conv1FCBBoxHead',
            in_channels=_width,
            conv_out_channels=_width,
            fc_out_channels=1024,
            roi_feat_size=7,
            num_classes=80,
            norm_cfg=_norm,
            bbox_coder=dict(
                type='DeltaXYWHBBoxCoder', target_stds=[0.1, 0.1, 0.2, 0.2]),
            loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False),
            loss_bbox=dict(type='L1Loss')),
        mask_roi_extractor=dict(
            _rois, roi_layer=dict(type='RoIAlign', output_size=14)),
        mask_head=dict(
            type='FCNMaskHead',
            num_convs=4,
            in_channels=_width,
            conv_out_channels=_width,
            num_classes=80,
            norm_cfg=_norm,
            loss_mask=dict(type='CrossEntropyLoss', use_mask=True))),
    train_cfg=dict(
        rpn=dict(
            assigner=dict(
                type='MaxIoUAssigner',
                pos_iou_thr=0.7,
                neg_iou_thr=0.3,
                min_pos_iou=0.3),
            sampler=dict(
                type='RandomSampler',
                num=256,
                pos_fraction=0.5,
                add_gt_as_proposals=False),
            allowed_border=-1,
            pos_weight=-1,
            debug=False),
        rpn_proposal=dict(
            nms_pre=2000,
            max_per_img=1000,
            nms=dict(type='nms', iou_threshold=0.7),
            min_bbox_size=0),
        rcnn=dict(
            assigner=dict(
                type='MaxIoUAssigner',
                pos_iou_thr=0.5,
                neg_iou_thr=0.5,
                min_pos_iou=0.5,
                match_low_quality=True),
            sampler=dict(
                type='RandomSampler', num=512, pos_fraction=0.25),
            mask_size=28,
            pos_weight=-1,
            debug=False)),
    test_cfg=dict(
        rpn=dict(
            nms_pre=1000,
            max_per_img=1000,
            nms=dict(type='nms', iou_threshold=0.7),
            min_bbox_size=0),
        rcnn=dict(
            score_thr=0.05,
            nms=dict(type='nms', iou_threshold=0.5),
            max_per_img=100,
            mask_thr_binary=0.5)))
