# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# ImageNet-1K at 224 px for pre-training; labels are not read.
# Elsewhere: --cfg-options train_dataloader.dataset.data_root=FOLDER, where
# FOLDER has the sub-folder train.
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
        scale=224,
        crop_ratio_range=(0.2, 1.0),
        backend='cv2',
        interpolation='bicubic'),
    dict(type='mmpretrain.RandomFlip', prob=0.5),
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
        type='mmeffmae.UnlabelledImages',
        data_root='data/imagenet/',
        data_prefix='train',
        pipeline=train_pipeline))
