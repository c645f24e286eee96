# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Imagenette photographs on one CPU core, about 15 minutes.
_base_ = ['./clmae_vit-192x6-p8_1xb64-coslr-25e_imagenette64.py']
model = dict(
    neck=dict(decoder_depth=1), masking=dict(mask_ratio=0.9))
