# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
# Any folder of images, at 256 px:
#     --cfg-options train_dataloader.dataset.data_root=FOLDER
_base_ = [
    '../_base_/models/um_swin-tiny-p16.py',
    '../_base_/datasets/folder.py',
    '../_base_/schedules/mae_adamw.py',
    '../_base_/schedules/coslr_300e.py',
    '../_base_/pretrain_runtime.py',
]
train_pipeline = [
    dict(type='mmeffmae.SeedSample'),
    dict(
        type='mmeffmae.LoadRandomResizedCrop',
        scale=256,
        crop_ratio_range=(0.2, 1.0),
        backend='cv2',
        interpolation='bicubic'),
    dict(type='mmpretrain.RandomFlip', prob=0.5),
    dict(type='mmpretrain.PackInputs'),
]
train_dataloader = dict(
    batch_size=256, dataset=dict(pipeline=train_pipeline))
