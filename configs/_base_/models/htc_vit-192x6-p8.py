# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Hybrid Task Cascade (https://arxiv.org/abs/1901.07518) with semantic branch on
# half a ViT-Ti, at a quarter of the published width: for two CPU cores.
num_things = 8
num_semantic = 12
_width = 64
_roi_align = dict(type='RoIAlign', sampling_ratio=0)

model = dict(
    type='HybridTaskCascade',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_mask=True,
        pad_seg=True,
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
            num_outs=5)
    ],
    rpn_head=dict(
        type='RPNHead',
        in_channels=_width,
        feat_channels=_width,
        anchor_generator=dict(
            type='AnchorGenerator',
            scales=[8],
            ratios=[0.5, 1.0, 2.0],
            strides=[4, 8, 16, 32, 64]),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True),
        loss_bbox=dict(type='SmoothL1Loss', beta=1.0 / 9.0)),
    roi_head=dict(
        type='HybridTaskCascadeRoIHead',
        interleaved=True,
        mask_info_flow=True,
        num_stages=3,
        stage_loss_weights=[1, 0.5, 0.25],
        bbox_roi_extractor=dict(
            type='SingleRoIExtractor',
            roi_layer=dict(_roi_align, output_size=7),
            out_channels=_width,
            featmap_strides=[4, 8, 16, 32]),
        bbox_head=[
            dict(
                type='Shared2FCBBoxHead',
                in_channels=_width,
                fc_out_channels=4 * _width,
                roi_feat_size=7,
                num_classes=num_things,
                bbox_coder=dict(
                    type='DeltaXYWHBBoxCoder',
                    target_stds=[_xy, _xy, _wh, _wh]),
                reg_class_agnostic=True,
                loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False),
                loss_bbox=dict(type='SmoothL1Loss', beta=1.0))
            for _xy, _wh in ((0.1, 0.2), (0.05, 0.1), (0.033, 0.067))
        ],
        mask_roi_extractor=dict(
            type='SingleRoIExtractor',
            roi_layer=dict(_roi_align, output_size=14),
            out_channels=_width,
            featmap_strides=[4, 8, 16, 32]),
        mask_head=[
            dict(
                type='HTCMaskHead',
                # The first has no earlier mask features to take in.
                with_conv_res=_stage > 0,
                num_convs=2,
                in_channels=_width,
                conv_out_channels=_width,
                num_classes=num_things,
                loss_mask=dict(type='CrossEntropyLoss', use_mask=True))
            for _stage in range(3)
        ],
        semantic_roi_extractor=dict(
            type='SingleRoIExtractor',
            roi_layer=dict(_roi_align, output_size=14),
            out_channels=_width,
            featmap_strides=[8]),
        semantic_head=dict(
            type='FusedSemanticHead',
            num_ins=5,
            fusion_level=1,
            seg_scale_factor=1 / 8,
            num_convs=2,
            in_channels=_width,
            conv_out_channels=_width,
            num_classes=num_semantic,
            loss_seg=dict(
                type='CrossEntropyLoss', ignore_index=255, loss_weight=0.2))),
    train_cfg=dict(
        rpn=dict(
            assigner=dict(
                type='MaxIoUAssigner',
                pos_iou_thr=0.7,
                neg_iou_thr=0.3,
                min_pos_iou=0.3),
            sampler=dict(
                type='RandomSampler',
                num=128,
                pos_fraction=0.5,
                add_gt_as_proposals=False),
            allowed_border=0,
            pos_weight=-1,
            debug=False),
        rpn_proposal=dict(
            nms_pre=256,
            max_per_img=128,
            nms=dict(type='nms', iou_threshold=0.7),
            min_bbox_size=0),
        rcnn=[
            dict(
                assigner=dict(
                    type='MaxIoUAssigner',
                    pos_iou_thr=_iou,
                    neg_iou_thr=_iou,
                    min_pos_iou=_iou),
                sampler=dict(
                    type='RandomSampler', num=32, pos_fraction=0.25),
                mask_size=28,
                pos_weight=-1,
                debug=False) for _iou in (0.5, 0.6, 0.7)
        ]),
    test_cfg=dict(
        rpn=dict(
            nms_pre=256,
            max_per_img=128,
            nms=dict(type='nms', iou_threshold=0.7),
            min_bbox_size=0),
        rcnn=dict(
            score_thr=0.001,
            nms=dict(type='nms', iou_threshold=0.5),
            max_per_img=30,
            mask_thr_binary=0.5)))
