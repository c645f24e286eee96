# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Any folder of unlabelled images, sub-folders included. All that it needs is
#     --cfg-options train_dataloader.dataset.data_root=FOLDER
# Another image size: set img_size in the model as well, or with options only
#     train_dataloader.dataset.pipeline.1.scale=N model.backbone.img_size=N
img_size = 224
data_preprocessor = dict(
    type='mmpretrain.SelfSupDataPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True)

train_pipeline = [
    dict(type='mmeffmae.SeedSample'),
    # Large JPEG files are decoded at the size of the crop.
    dict(
        type='mmeffmae.LoadRandomResizedCrop',
        scale=img_size,
        crop_ratio_range=(0.2, 1.0),
        backend='cv2',
        interpolation='bicubic'),
    dict(type='mmpretrain.RandomFlip', prob=0.5),
    dict(type='mmpretrain.PackInputs'),
]

train_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='mmeffmae.KeyedSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmeffmae.UnlabelledImages',
        data_root='data/images/',
        pipeline=train_pipeline))
