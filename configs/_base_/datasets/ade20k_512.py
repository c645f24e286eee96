# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# ADE20K at 512 px. Environment variable MMEFFMAE_DATA_ROOT: the folder that holds
# ade/ADEChallengeData2016/{images,annotations}/{training,validation}; data if
# unset. --tta: six scales and flips.
data_root = '{{$MMEFFMAE_DATA_ROOT:data}}/ade/ADEChallengeData2016'
_crop = (512, 512)

train_pipeline = [
    dict(type='mmeffmae.SeedSample'),
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(
        type='RandomResize',
        scale=(2048, 512),
        ratio_range=(0.5, 2.0),
        keep_ratio=True),
    dict(type='RandomCrop', crop_size=_crop, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs')
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(2048, 512), keep_ratio=True),
    # After Resize: the metric compares at the full size.
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs')
]

_dataset = dict(type='ADE20KDataset', data_root=data_root)
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='mmeffmae.InfiniteKeyedSampler', shuffle=True),
    dataset=dict(
        **_dataset,
        data_prefix=dict(
            img_path='images/training', seg_map_path='annotations/training'),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
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

tta_model = dict(type='SegTTAModel')
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[[
            dict(
                type='Resize',
                scale=(int(2048 * _ratio), int(512 * _ratio)),
                keep_ratio=True)
            for _ratio in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
        ], [dict(type='RandomFlip', prob=_p) for _p in (0., 1.)],
                    [dict(type='LoadAnnotations')],
                    [dict(type='PackSegInputs')]])
]
