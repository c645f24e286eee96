# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Boxes of CamVid at half size on one CPU core.
_base_ = [
    '../_base_/models/gfl_vit-192x6-p8.py',
    '../_base_/datasets/camvid_instance_semantic.py',
    '../_base_/schedules/adamw_coslr_4e.py',
    '../_base_/det_runtime.py',
]
val_evaluator = dict(metric=['bbox'])
test_evaluator = val_evaluator
