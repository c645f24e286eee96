# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
# UM-MAE's detector as published: it starts from the *fine-tuned* classifier.
#     --cfg-options model.backbone.init_cfg.checkpoint=FILE
_base_ = ['./gfl_um-swin-tiny_8xb2-amp-lsj-25e_coco.py']
model = dict(
    backbone=dict(type='mmeffmae.UMPVT', arch='small'),
    neck=[
        dict(_base_.model.neck[0], in_channels=[128, 320, 512]),
        _base_.model.neck[1]
    ])
