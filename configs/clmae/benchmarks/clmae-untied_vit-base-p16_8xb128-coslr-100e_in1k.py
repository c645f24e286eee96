# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
# The shared attention is copied into every layer, then the copies learn apart.
_base_ = ['./clmae_vit-base-p16_8xb128-coslr-100e_in1k.py']
model = dict(backbone=dict(share_attn=None))
