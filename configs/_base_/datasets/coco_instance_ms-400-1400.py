# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# HTC++'s multi-scale training: short side 400 to 1400 px, long side at most 1600.
# Testing at one scale; --tta: six scales and flips, large objects from small
# images and small ones from large images, as ViT-Adapter does.
_base_ = './coco_instance.py'
train_pipeline = [
    dict(type='mmeffmae.SeedSample'),
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='RandomResize',
        scale=[(1600, 400), (1600, 1400)],
        keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs')
]
train_dataloader = dict(
    batch_size=1, dataset=dict(pipeline=train_pipeline))
_meta = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(1600, 1400), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs', meta_keys=_meta)
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

tta_model = dict(
    type='mmeffmae.InstanceTTAModel',
    object_sizes=[('l', ), ('l', ), ('m', 'l'), ('s', 'm'), ('s', 'm'),
                  ('s', 'm')],
    tta_cfg=dict(
        nms=dict(type='soft_nms', iou_threshold=0.5), max_per_img=1000))
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[[
            dict(type='Resize', scale=(3000, _side), keep_ratio=True)
            for _side in (600, 800, 1000, 1200, 1400, 1600)
        ], [dict(type='RandomFlip', prob=_p) for _p in (0., 1.)],
                    [dict(
                        type='LoadAnnotations',
                        with_bbox=True,
                        with_mask=True)],
                    [
                        dict(
                            type='PackDetInputs',
                            meta_keys=(*_meta, 'flip', 'flip_direction'))
                    ]])
]
