# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# For 112 px: 14x14 patches, as ViT-B/16 at 224 px, and a decoder that takes
# as large a share of the work as MAE's does there.
model = dict(
    type='mmeffmae.MaskedAutoencoder',
    backbone=dict(
        type='mmeffmae.MaskedViT', arch='t', img_size=112, patch_size=8),
    neck=dict(
        type='mmeffmae.MaskedDecoder',
        decoder_embed_dim=128,
        decoder_depth=8,
        decoder_num_heads=4),
    head=dict(type='mmeffmae.PixelHead', norm_pix=True),
    masking=dict(type='mmeffmae.RandomMasking', mask_ratio=0.75))
