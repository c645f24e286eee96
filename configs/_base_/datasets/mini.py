# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# The built-in mini scenes (tools/make_mini_scenes.py) at 64 px, eight classes.
data_root = 'data/mini/images/'
data_preprocessor = dict(
    type='mmpretrain.SelfSupDataPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True)

train_pipeline = [
    dict(type='mmeffmae.SeedSample'),
    dict(type='mmeffmae.LoadImage'),
    dict(
        type='mmpretrain.RandomResizedCrop',
        scale=64,
        crop_ratio_range=(0.4, 1.0),
        backend='cv2',
        interpolation='bicubic'),
    dict(type='mmpretrain.RandomFlip', prob=0.5),
    dict(type='mmpretrain.PackInputs'),
]

test_pipeline = [
    dict(type='mmeffmae.LoadImage'),
    dict(type='mmpretrain.PackInputs'),
]

train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='mmeffmae.KeyedSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmeffmae.UnlabelledImages',
        data_root=data_root,
        data_prefix='train',
        pipeline=train_pipeline))

_labelled = dict(
    type='mmeffmae.LabelledImages',
    data_root=data_root,
    test_mode=True,
    pipeline=test_pipeline)
custom_hooks = [
    dict(
        type='mmeffmae.KNNMonitorHook',
        bank=dict(data_prefix='train', **_labelled),
        query=dict(data_prefix='val', **_labelled),
        interval=10)
]

# So few scenes that the final read is the monitor's.
probe_query = dict(data_prefix='val', **_labelled)
