# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
_base_ = [
    '../_base_/models/mask-rcnn_vit-base-p16.py',
    '../_base_/datasets/coco_instance_lsj-640.py',
    '../_base_/schedules/coco_1x.py',
    '../_base_/det_runtime.py',
]
# One card: steps of 16 images in four parts. README.md estimates the memory.
train_dataloader = dict(batch_size=4)
optim_wrapper = dict(accumulative_counts=4)
model = dict(backbone=dict(with_cp=True))
