# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Simple copy-paste (Ghiasi et al., https://arxiv.org/abs/2012.07177), the class
# maps included, on large-scale jitter of 1024 px: pasting needs equal sizes.
# It takes the place of InstaBoost and of training at several scales.
_base_ = './coco_instance_semantic_ms-400-1400.py'
_size = (1024, 1024)
load_pipeline = [
    dict(type='mmeffmae.SeedSample'),
    dict(type='LoadImageFromFile'),
    dict(
        type='LoadAnnotations', with_bbox=True, with_mask=True, with_seg=True),
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='RandomResize',
        scale=_size,
        ratio_range=(0.1, 2.0),
        keep_ratio=True),
    dict(
        type='RandomCrop',
        crop_type='absolute',
        crop_size=_size,
        recompute_bbox=True,
        allow_negative_crop=True),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-2, 1e-2)),
    dict(
        type='Pad',
        size=_size,
        pad_val=dict(img=(114, 114, 114), masks=0, seg=255)),
]
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='MultiImageMixDataset',
        dataset=dict(
            type='CocoDataset',
            data_root=_base_.data_root,
            ann_file='annotations/instances_train2017.json',
            data_prefix=dict(
                img='train2017/', seg='stuffthingmaps/train2017/'),
            filter_cfg=dict(filter_empty_gt=True, min_size=32),
            pipeline=load_pipeline),
        pipeline=[
            dict(type='mmeffmae.SemanticCopyPaste', max_num_pasted=100),
            dict(type='PackDetInputs')
        ]))
