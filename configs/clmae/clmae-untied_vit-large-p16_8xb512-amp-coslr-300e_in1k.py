# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
_base_ = ['./clmae_vit-large-p16_8xb512-amp-coslr-300e_in1k.py']
# Every layer has its own attention: what sharing costs or brings.
model = dict(backbone=dict(share_attn=None))
