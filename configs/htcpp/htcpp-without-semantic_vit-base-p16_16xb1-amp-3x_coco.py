# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
_base_ = [
    '../_base_/models/htcpp_vit-base-p16.py',
    '../_base_/datasets/coco_instance_ms-400-1400.py',
    '../_base_/schedules/coco_3x.py',
    '../_base_/htcpp_runtime.py',
]
model = dict(
    data_preprocessor=dict(pad_seg=False),
    roi_head=dict(semantic_roi_extractor=None, semantic_head=None))
