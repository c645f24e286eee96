# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# On one card: 160,000 updates of four times four images. Not run at this scale yet.
_base_ = './upernet_vit-base-p16_8xb2-amp-160k_ade20k-512x512.py'
_parts = 4
_warmup, _decay = _base_.param_scheduler
train_dataloader = dict(batch_size=4)
optim_wrapper = dict(accumulative_counts=_parts)
param_scheduler = [
    dict(_warmup, end=_warmup['end'] * _parts),
    dict(_decay, begin=_decay['begin'] * _parts, end=_decay['end'] * _parts)
]
train_cfg = dict(
    max_iters=_base_.train_cfg.max_iters * _parts,
    val_interval=_base_.train_cfg.val_interval * _parts)
default_hooks = dict(checkpoint=dict(interval=16000 * _parts))
