# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# With InstaBoost (https://arxiv.org/abs/1908.07801), as HTC++ trains: pip install
# instaboostfast, which states no licence. It moves objects in the image but not
# in the class maps.
_base_ = './coco_instance_semantic_ms-400-1400.py'
train_pipeline = [
    dict(type='mmeffmae.SeedSample'),
    dict(type='LoadImageFromFile'),
    dict(
        type='InstaBoost',
        action_candidate=('normal', 'horizontal', 'skip'),
        action_prob=(1, 0, 0),
        scale=(0.8, 1.2),
        dx=15,
        dy=15,
        theta=(-1, 1),
        color_prob=0.5,
        hflag=False,
        aug_ratio=0.5),
    dict(
        type='LoadAnnotations', with_bbox=True, with_mask=True, with_seg=True),
    dict(
        type='RandomResize',
        scale=[(1600, 400), (1600, 1400)],
        keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs')
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
