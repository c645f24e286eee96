# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
# The pre-trained checkpoint, ours or the official one, or an exported backbone:
#     --cfg-options model.backbone.init_cfg.checkpoint=FILE
# The official one has no prefix: model.backbone.init_cfg.prefix=None
_base_ = ['../../_base_/um_mae_finetune_256.py']
model = dict(
    backbone=dict(arch='large', drop_path_rate=0.2),
    head=dict(in_channels=1536))
train_dataloader = dict(batch_size=32)
optim_wrapper = dict(
    accumulative_counts=4, paramwise_cfg=dict(layer_decay_rate=0.7))
