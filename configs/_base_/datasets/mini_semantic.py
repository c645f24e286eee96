# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# The built-in mini scenes (tools/make_mini_scenes.py) in ADE20K's layout: eight
# classes of objects, four of background.
data_root = 'data/mini/ade/'
metainfo = dict(
    classes=('plain_disk', 'striped_disk', 'banded_triangle',
             'checked_triangle', 'dotted_ring', 'slanted_ring', 'wavy_cross',
             'circled_cross', 'sky', 'wall', 'grass', 'water'),
    palette=[(220, 20, 60), (255, 128, 0), (0, 130, 200), (70, 240, 240),
             (145, 30, 180), (240, 50, 230), (60, 180, 75), (210, 245, 60),
             (180, 200, 230), (150, 120, 100), (90, 130, 60), (30, 60, 140)])

train_pipeline = [
    dict(type='mmeffmae.SeedSample'),
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs')
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs')
]

_dataset = dict(
    type='BaseSegDataset',
    data_root=data_root,
    metainfo=metainfo,
    reduce_zero_label=True)
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='mmeffmae.KeyedSampler', shuffle=True),
    dataset=dict(
        **_dataset,
        data_prefix=dict(
            img_path='images/training', seg_map_path='annotations/training'),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **_dataset,
        data_prefix=dict(
            img_path='images/validation',
            seg_map_path='annotations/validation'),
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
