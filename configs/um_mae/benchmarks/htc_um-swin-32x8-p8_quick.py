# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# The mini scenes on two CPU cores, from the exported encoder of um_mae_quick.
_base_ = [
    '../../_base_/models/htc_um-swin-32x8-p8.py',
    '../../_base_/datasets/mini_instance_semantic.py',
    '../../_base_/schedules/adamw_coslr_4e_htc.py',
    '../../_base_/det_runtime.py',
]
