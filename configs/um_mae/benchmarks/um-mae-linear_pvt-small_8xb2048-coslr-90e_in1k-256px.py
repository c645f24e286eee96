# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
# A linear probe by MAE's recipe; the paper has none.
# The pre-trained checkpoint, ours or the official one, or an exported backbone:
#     --cfg-options model.backbone.init_cfg.checkpoint=FILE
_base_ = ['./um-mae-linear_swin-tiny_8xb2048-coslr-90e_in1k-256px.py']
model = dict(
    backbone=dict(type='mmeffmae.UMPVT', arch='small'),
    neck=[
        dict(type='GlobalAveragePooling'),
        dict(type='ClsBatchNormNeck', input_features=512)
    ],
    head=dict(in_channels=512))
