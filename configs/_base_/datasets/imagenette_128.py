# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Imagenette photographs up-sampled to 128 px, for one GPU.
# Environment variable MMEFFMAE_DATA_ROOT: the folder that holds imagenette112,
# for training and monitor alike; data if unset.
data_root = '{{$MMEFFMAE_DATA_ROOT:data}}/imagenette112/'
# Training and its monitor leave the validation photographs alone: 1,000 are
# held out of the training photographs, the same in every run.
_photographs = dict(
    type='mmeffmae.LabelledImages',
    data_root=data_root,
    data_prefix='train',
    held_out=1000)
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
        scale=128,
        crop_ratio_range=(0.2, 1.0),
        backend='cv2',
        interpolation='bicubic'),
    dict(type='mmpretrain.RandomFlip', prob=0.5),
    dict(type='mmpretrain.PackInputs'),
]

test_pipeline = [
    dict(type='mmeffmae.LoadImage'),
    dict(
        type='mmpretrain.ResizeEdge',
        scale=128,
        backend='cv2',
        interpolation='bicubic'),
    dict(type='mmpretrain.PackInputs'),
]

train_dataloader = dict(
    batch_size=512,
    num_workers=8,
    persistent_workers=True,
    drop_last=True,  # one batch shape, as MAE does
    sampler=dict(type='mmeffmae.KeyedSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        **_photographs,
        split='train',
        pipeline=train_pipeline))

custom_hooks = [
    dict(
        type='mmeffmae.KNNMonitorHook',
        bank=dict(
            **_photographs,
            split='train',
            test_mode=True,
            pipeline=test_pipeline),
        query=dict(
            **_photographs,
            split='held_out',
            test_mode=True,
            pipeline=test_pipeline),
        interval=20)
]

# Read once, at the end: the validation photographs.
probe_query = dict(
    type='mmeffmae.LabelledImages',
    data_root=data_root,
    data_prefix='val',
    test_mode=True,
    pipeline=test_pipeline)
