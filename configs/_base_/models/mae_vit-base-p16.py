# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
model = dict(
    type='mmeffmae.MaskedAutoencoder',
    backbone=dict(
        type='mmeffmae.MaskedViT', arch='b', img_size=224, patch_size=16),
    neck=dict(
        type='mmeffmae.MaskedDecoder',
        decoder_embed_dim=512,
        decoder_depth=8,
        decoder_num_heads=16),
    head=dict(type='mmeffmae.PixelHead', norm_pix=True),
    masking=dict(type='mmeffmae.RandomMasking', mask_ratio=0.75))
