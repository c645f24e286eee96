# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
# The pre-trained checkpoint, ours or the official one, or an exported backbone:
#     --cfg-options model.backbone.init_cfg.checkpoint=FILE
# The official one has no prefix: model.backbone.init_cfg.prefix=None
_base_ = ['../../_base_/um_mae_finetune_256.py']
model = dict(
    backbone=dict(type='mmeffmae.UMPVT', arch='small'),
    head=dict(in_channels=512))
