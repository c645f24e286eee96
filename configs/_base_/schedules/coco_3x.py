# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
_base_ = './coco_1x.py'
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=True, milestones=[27, 33], gamma=0.1)
]
train_cfg = dict(max_epochs=36, val_interval=3)
