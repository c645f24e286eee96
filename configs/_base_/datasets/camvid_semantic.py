# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# CamVid road scenes at half size, 240x180, for two CPU cores; evaluated at full
# size. Environment variable MMEFFMAE_DATA_ROOT: the folder that holds camvid;
# data if unset. Value 11 of the class maps means unlabelled: heads and metrics
# ignore it.
data_root = '{{$MMEFFMAE_DATA_ROOT:data}}/camvid/'
unlabelled = 11
metainfo = dict(
    classes=('sky', 'building', 'pole', 'road', 'pavement', 'tree',
             'sign symbol', 'fence', 'car', 'pedestrian', 'bicyclist'),
    palette=[(128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128),
             (0, 0, 192), (128, 128, 0), (192, 128, 128), (64, 64, 128),
             (64, 0, 128), (64, 64, 0), (0, 128, 192)])
# 4 % of the labelled pixels are poles, signs, fences, people and bicycles.
# ENet's weights (arXiv 1606.02147, section 5.2), 1 / ln(1.02 + share of the
# training pixels), scaled to a mean of 1 over pixels.
class_weight = [
    0.80, 0.61, 4.79, 0.48, 2.21, 1.25, 4.50, 4.57, 1.83, 5.43, 6.27]
_size = (240, 180)

train_pipeline = [
    dict(type='mmeffmae.SeedSample'),
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(
        type='RandomResize',
        scale=_size,
        ratio_range=(0.8, 1.5),
        keep_ratio=True),
    dict(type='RandomCrop', crop_size=(128, 128)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs')
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=_size, keep_ratio=True),
    # After Resize: the metric compares at the full size.
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs')
]

_dataset = dict(
    type='BaseSegDataset', data_root=data_root, metainfo=metainfo)
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='mmeffmae.KeyedSampler', shuffle=True),
    dataset=dict(
        **_dataset,
        data_prefix=dict(
            img_path='images/train', seg_map_path='annotations/train'),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **_dataset,
        data_prefix=dict(
            img_path='images/val', seg_map_path='annotations/val'),
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(
    type='IoUMetric', iou_metrics=['mIoU'], ignore_index=unlabelled)
test_evaluator = val_evaluator
