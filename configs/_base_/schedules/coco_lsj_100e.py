# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# ViTDet's long schedule for large-scale jitter: 184,375 steps of 64 images, 100
# epochs of COCO, with decay 0.1.
_base_ = './coco_1x.py'
optim_wrapper = dict(optimizer=dict(weight_decay=0.1))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=250),
    dict(
        type='MultiStepLR',
        by_epoch=False,
        milestones=[163889, 177546],
        gamma=0.1)
]
train_cfg = dict(
    _delete_=True,
    type='IterBasedTrainLoop',
    max_iters=184375,
    val_interval=18437)
auto_scale_lr = dict(base_batch_size=64)
