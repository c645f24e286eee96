# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
# MAE's recipe, on all tokens. The pre-trained checkpoint:
#     --cfg-options model.backbone.init_cfg.checkpoint=FILE
# No loss reads the class token in pre-training: try out_type='avg_featmap' too.
_base_ = [
    'mmpretrain::mae/benchmarks/vit-base-p16_8xb2048-linear-coslr-90e_in1k.py'
]
model = dict(backbone=dict(type='mmeffmae.MaskedViT'))
default_hooks = dict(load_report=dict(type='mmeffmae.LoadReportHook'))
