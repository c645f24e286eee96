# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
_base_ = ['./pcae_vit-huge-p14_8xb512-amp-coslr-300e_in1k.py']
model = dict(masking=dict(mask_ratio=0.85))
