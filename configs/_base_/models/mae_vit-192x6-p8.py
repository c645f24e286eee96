# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Half a ViT-Ti for 64 px: small enough for two CPU cores.
model = dict(
    type='mmeffmae.MaskedAutoencoder',
    backbone=dict(
        type='mmeffmae.MaskedViT',
        arch=dict(
            embed_dims=192,
            num_layers=6,
            num_heads=3,
            feedforward_channels=768),
        img_size=64,
        patch_size=8),
    neck=dict(
        type='mmeffmae.MaskedDecoder',
        decoder_embed_dim=96,
        decoder_depth=2,
        decoder_num_heads=3),
    head=dict(type='mmeffmae.PixelHead', norm_pix=True),
    masking=dict(type='mmeffmae.RandomMasking', mask_ratio=0.75))
