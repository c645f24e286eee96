# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
_base_ = [
    '../_base_/models/mask-rcnn_vit-base-p16.py',
    '../_base_/datasets/coco_instance_lsj-1024.py',
    '../_base_/schedules/coco_lsj_100e.py',
    '../_base_/det_runtime.py',
]
train_dataloader = dict(
    sampler=dict(type='mmeffmae.InfiniteKeyedSampler', shuffle=True))
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=18437))
log_processor = dict(by_epoch=False)
