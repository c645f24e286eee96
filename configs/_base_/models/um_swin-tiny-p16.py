# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
model = dict(
    type='mmeffmae.MaskedAutoencoder',
    backbone=dict(
        type='mmeffmae.UMSwin', arch='tiny', img_size=256, patch_size=16),
    neck=dict(
        type='mmeffmae.PixelShuffleDecoder',
        decoder_embed_dim=512,
        decoder_depth=2,
        decoder_num_heads=16),
    head=dict(type='mmeffmae.PixelHead', norm_pix=True),
    masking=dict(type='mmeffmae.UniformMasking', hidden_ratio=0.25))
