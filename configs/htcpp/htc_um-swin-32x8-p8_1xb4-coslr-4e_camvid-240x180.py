# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# From UM-MAE's encoder: CamVid at half size on one CPU core.
_base_ = [
    '../_base_/models/htc_um-swin-32x8-p8.py',
    '../_base_/datasets/camvid_instance_semantic.py',
    '../_base_/schedules/adamw_coslr_4e_htc.py',
    '../_base_/det_runtime.py',
]
_roi_head = _base_.model.roi_head
model = dict(
    data_preprocessor=dict(seg_pad_value=_base_.unlabelled),
    rpn_head=dict(anchor_generator=_base_.anchors),
    roi_head=dict(
        bbox_head=[dict(_of, num_classes=4) for _of in _roi_head.bbox_head],
        mask_head=[dict(_of, num_classes=4) for _of in _roi_head.mask_head],
        semantic_head=dict(
            num_classes=11, loss_seg=dict(ignore_index=_base_.unlabelled))))
