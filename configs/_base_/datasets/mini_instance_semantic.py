# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# The built-in mini scenes (tools/make_mini_scenes.py) in COCO's layout: eight
# classes of objects, four of background.
data_root = 'data/mini/coco/'
metainfo = dict(
    classes=('plain_disk', 'striped_disk', 'banded_triangle',
             'checked_triangle', 'dotted_ring', 'slanted_ring', 'wavy_cross',
             'circled_cross'),
    palette=[(220, 20, 60), (255, 128, 0), (0, 130, 200), (70, 240, 240),
             (145, 30, 180), (240, 50, 230), (60, 180, 75), (210, 245, 60)])

train_pipeline = [
    dict(type='mmeffmae.SeedSample'),
    dict(type='LoadImageFromFile'),
    dict(
        type='LoadAnnotations', with_bbox=True, with_mask=True, with_seg=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs')
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(128, 128), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape',
                   'scale_factor'))
]

_dataset = dict(type='CocoDataset', data_root=data_root, metainfo=metainfo)
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='mmeffmae.KeyedSampler', shuffle=True),
    dataset=dict(
        **_dataset,
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='train/', seg='stuffthingmaps/train/'),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **_dataset,
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='val/'),
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(
    type='CocoMetric',
    ann_file=data_root + 'annotations/instances_val.json',
    metric=['bbox', 'segm'])
test_evaluator = val_evaluator
