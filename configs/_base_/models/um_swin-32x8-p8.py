# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# A third of a Swin-T's width, for 64 px: small enough for two CPU cores.
model = dict(
    type='mmeffmae.MaskedAutoencoder',
    backbone=dict(
        type='mmeffmae.UMSwin',
        arch=dict(
            embed_dims=32,
            depths=[2, 2, 2, 2],
            num_heads=[1, 2, 4, 8],
            position_dims=32),
        img_size=64,
        patch_size=8),
    neck=dict(
        type='mmeffmae.PixelShuffleDecoder',
        decoder_embed_dim=96,
        decoder_depth=2,
        decoder_num_heads=3),
    head=dict(type='mmeffmae.PixelHead', norm_pix=True),
    masking=dict(type='mmeffmae.UniformMasking', hidden_ratio=0.25))
