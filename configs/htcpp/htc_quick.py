# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# The built-in mini scenes on two CPU cores, about a minute and a half.
_base_ = [
    '../_base_/models/htc_vit-192x6-p8.py',
    '../_base_/datasets/mini_instance_semantic.py',
    '../_base_/schedules/adamw_coslr_4e_htc.py',
    '../_base_/det_runtime.py',
]
