# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Instances made from CamVid's class maps by tools/data/camvid_instances.py, with
# the maps as stuffthingmaps, at half size, 240x180, for two CPU cores.
# Environment variable MMEFFMAE_DATA_ROOT: the folder that holds camvid; data if
# unset. Value 11 of the maps means unlabelled.
data_root = '{{$MMEFFMAE_DATA_ROOT:data}}/camvid/'
unlabelled = 11
metainfo = dict(
    classes=('sign symbol', 'car', 'pedestrian', 'bicyclist'),
    palette=[(192, 128, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192)])
_size = (240, 180)
# Half of the instances are narrower than 11 px at this size, three in four are
# upright; in pixels at a stride of 1.
anchors = dict(scales=[3], ratios=[0.5, 1.0, 2.0, 4.0])

train_pipeline = [
    dict(type='mmeffmae.SeedSample'),
    dict(type='LoadImageFromFile'),
    dict(
        type='LoadAnnotations', with_bbox=True, with_mask=True, with_seg=True),
    dict(
        type='RandomResize',
        scale=_size,
        ratio_range=(0.8, 1.5),
        keep_ratio=True),
    dict(type='RandomCrop', crop_size=(128, 128), allow_negative_crop=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs')
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=_size, keep_ratio=True),
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
        ann_file='instances_train.json',
        data_prefix=dict(img='images/train/', seg='annotations/train/'),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **_dataset,
        ann_file='instances_val.json',
        data_prefix=dict(img='images/val/'),
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(
    type='CocoMetric',
    ann_file=data_root + 'instances_val.json',
    metric=['bbox', 'segm'])
test_evaluator = val_evaluator
