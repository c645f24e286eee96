# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
_base_ = ['./mae_vit-large-p16_8xb512-amp-coslr-300e_in1k.py']
# The same 4,096 images a step on smaller GPUs: a quarter at once, and activations
# computed again in the backward pass.
model = dict(backbone=dict(with_cp=True), neck=dict(with_cp=True))
train_dataloader = dict(batch_size=128)
optim_wrapper = dict(accumulative_counts=4)
