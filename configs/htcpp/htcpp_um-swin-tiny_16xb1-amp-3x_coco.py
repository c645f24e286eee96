# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
_base_ = [
    '../_base_/models/htcpp_um-swin-tiny.py',
    '../_base_/datasets/coco_instance_semantic_ms-400-1400.py',
    '../_base_/schedules/coco_3x.py',
    '../_base_/htcpp_runtime.py',
]
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.0))
