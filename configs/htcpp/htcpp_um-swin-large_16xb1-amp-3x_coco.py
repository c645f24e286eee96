# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
_base_ = [
    '../_base_/models/htcpp_um-swin-tiny.py',
    '../_base_/datasets/coco_instance_semantic_ms-400-1400.py',
    '../_base_/schedules/coco_3x.py',
    '../_base_/htcpp_runtime.py',
]
# As ViT-Adapter's HTC++ on Swin-L: stochastic depth, one rate for all layers, and
# soft-NMS of the proposals, too.
_soft_nms = dict(type='soft_nms')
model = dict(
    backbone=dict(arch='large', drop_path_rate=0.3),
    neck=[
        dict(
            _base_.model.neck[0],
            embed_dims=1536,
            num_heads=48,
            drop_path_rate=0.3),
        dict(_base_.model.neck[1], in_channels=[192, 384, 768, 1536])
    ],
    train_cfg=dict(rpn_proposal=dict(nms=_soft_nms)),
    test_cfg=dict(rpn=dict(nms=_soft_nms)))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.0))
