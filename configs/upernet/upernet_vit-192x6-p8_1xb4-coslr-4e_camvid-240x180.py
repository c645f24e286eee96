# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# CamVid at half size on one CPU core, about three minutes.
_base_ = [
    '../_base_/models/upernet_vit-192x6-p8.py',
    '../_base_/datasets/camvid_semantic.py',
    '../_base_/schedules/adamw_coslr_4e.py',
    '../_base_/seg_runtime.py',
]
model = dict(
    data_preprocessor=dict(seg_pad_val=_base_.unlabelled),
    decode_head=dict(
        num_classes=11,
        ignore_index=_base_.unlabelled,
        # With weights mmseg leaves unlabelled pixels out of the mean by itself.
        loss_decode=dict(
            class_weight=_base_.class_weight, avg_non_ignore=False)))
