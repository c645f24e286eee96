# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
# The pre-trained checkpoint, ours or the official one, or an exported backbone:
#     --cfg-options model.backbone.init_cfg.checkpoint=FILE
# The official one has no prefix: model.backbone.init_cfg.prefix=None
_base_ = ['mmpretrain::mae/benchmarks/vit-base-p16_8xb128-coslr-100e_in1k.py']
model = dict(backbone=dict(type='mmeffmae.MaskedViT'))
train_dataloader = dict(batch_size=64)
optim_wrapper = dict(
    type='mmeffmae.BFloat16OptimWrapper',  # on GPUs that have it
    accumulative_counts=2,
    clip_grad=None,
    paramwise_cfg=dict(layer_decay_rate=0.8))
default_hooks = dict(load_report=dict(type='mmeffmae.LoadReportHook'))
