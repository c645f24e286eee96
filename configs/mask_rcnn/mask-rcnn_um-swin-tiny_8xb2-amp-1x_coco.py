# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
_base_ = [
    '../_base_/models/mask-rcnn_um-swin-tiny.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/coco_1x.py',
    '../_base_/det_runtime.py',
]
# As the stock Swin's recipe: all layers learn at one rate.
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.0))
