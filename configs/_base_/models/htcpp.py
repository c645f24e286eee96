# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# HTC++ (Swin, https://arxiv.org/abs/2103.14030, appendix A2.2, in the public
# form of ViT-Adapter) on any pyramid of 256 channels and strides 4 to 64: a
# config adds model.backbone and model.neck, with GlobalAttention on the last map.
num_things = 80
num_semantic = 183  # COCO-Stuff with gaps
_width = 256
_roi_align = dict(type='RoIAlign', sampling_ratio=0)
_rois = dict(
    type='SingleRoIExtractor',
    out_channels=_width,
    featmap_strides=[4, 8, 16, 32])

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
            _rois, roi_layer=dict(_roi_align, output_size=7)),
        bbox_head=[
            dict(
                type='Shared4Conv1FCBBoxHead',
                in_channels=_width,
                fc_out_channels=1024,
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
            _rois, roi_layer=dict(_roi_align, output_size=14)),
        mask_head=[
            dict(
                type='HTCMaskHead',
                # The first has no earlier mask features to take in.
                with_conv_res=_stage > 0,
                num_convs=4,
                in_channels=_width,
                conv_out_channels=_width,
                num_classes=num_things,
                loss_mask=dict(type='CrossEntropyLoss', use_mask=True))
            for _stage in range(3)
        ],
        semantic_roi_extractor=dict(
            _rois,
            roi_layer=dict(_roi_align, output_size=14),
            featmap_strides=[8]),
        semantic_head=dict(
            type='FusedSemanticHead',
            num_ins=5,
            fusion_level=1,
            seg_scale_factor=1 / 8,
            num_convs=4,
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
                min_pos_iou=0.3,
                ignore_iof_thr=-1),
            sampler=dict(
                type='RandomSampler',
                num=256,
                pos_fraction=0.5,
                add_gt_as_proposals=False),
            allowed_border=0,
            pos_weight=-1,
            debug=False),
        rpn_proposal=dict(
            nms_pre=2000,
            max_per_img=2000,
            nms=dict(type='nms', iou_threshold=0.7),
            min_bbox_size=0),
        rcnn=[
            dict(
                assigner=dict(
                    type='MaxIoUAssigner',
                    pos_iou_thr=_iou,
                    neg_iou_thr=_iou,
                    min_pos_iou=_iou,
                    ignore_iof_thr=-1),
                sampler=dict(
                    type='RandomSampler', num=512, pos_fraction=0.25),
                mask_size=28,
                pos_weight=-1,
                debug=False) for _iou in (0.5, 0.6, 0.7)
        ]),
    test_cfg=dict(
        rpn=dict(
            nms_pre=1000,
            max_per_img=1000,
            nms=dict(type='nms', iou_threshold=0.7),
            min_bbox_size=0),
        rcnn=dict(
            score_thr=0.001,
            nms=dict(type='soft_nms', iou_threshold=0.5),
            max_per_img=100,
            mask_thr_binary=0.5)))
