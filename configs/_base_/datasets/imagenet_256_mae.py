# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# ImageNet-1K at 256 px for pre-training; labels are not read.
# Elsewhere: --cfg-options train_dataloader.dataset.data_root=FOLDER, where
# FOLDER has the sub-folder train.
_base_ = './imagenet_bs512_mae.py'

train_pipeline = [
    dict(type='mmeffmae.SeedSample'),
    dict(type='mmeffmae.LoadImage'),
    dict(
        type='mmpretrain.RandomResizedCrop',
        scale=256,
        crop_ratio_range=(0.2, 1.0),
        backend='cv2',
        interpolation='bicubic'),
    dict(type='mmpretrain.RandomFlip', prob=0.5),
    dict(type='mmpretrain.PackInputs'),
]
train_dataloader = dict(
    batch_size=128, dataset=dict(pipeline=train_pipeline))
