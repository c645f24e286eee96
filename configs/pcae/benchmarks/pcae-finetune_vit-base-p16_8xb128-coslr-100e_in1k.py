# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
# MAE's recipe. The pre-trained checkpoint, or an exported backbone:
#     --cfg-options model.backbone.init_cfg.checkpoint=FILE
# From any checkpoint of it, tools/test.py takes another share of tokens with
#     --cfg-options model.backbone.drop_ratio=0.2
_base_ = ['mmpretrain::mae/benchmarks/vit-base-p16_8xb128-coslr-100e_in1k.py']
model = dict(
    backbone=dict(
        type='mmeffmae.MaskedViT', drop_ratio=0.0, drop_indices=(2, 5, 8)))
default_hooks = dict(load_report=dict(type='mmeffmae.LoadReportHook'))
