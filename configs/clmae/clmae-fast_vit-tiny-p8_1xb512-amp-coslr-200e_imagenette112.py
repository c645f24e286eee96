# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
_base_ = ['./clmae_vit-tiny-p8_1xb512-amp-coslr-200e_imagenette112.py']
model = dict(neck=dict(decoder_depth=2), masking=dict(mask_ratio=0.9))
# An epoch is less than twenty steps.
default_hooks = dict(checkpoint=dict(interval=10))
