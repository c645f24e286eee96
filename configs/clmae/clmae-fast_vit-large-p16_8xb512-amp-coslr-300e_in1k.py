# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
_base_ = ['./clmae_vit-large-p16_8xb512-amp-coslr-300e_in1k.py']
# Mask ratio and decoder of MAE-fast.
model = dict(
    neck=dict(decoder_embed_dim=256, decoder_depth=2, decoder_num_heads=8),
    masking=dict(mask_ratio=0.9))
