# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# The mean of the tokens that stay, a norm and a linear layer.
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmeffmae.MaskedViT',
        arch=dict(
            embed_dims=192,
            num_layers=6,
            num_heads=3,
            feedforward_channels=768),
        img_size=64,
        patch_size=8,
        out_type='avg_featmap',
        final_norm=False,
        drop_ratio=0.0,
        init_cfg=dict(type='Pretrained', checkpoint='', prefix='backbone.')),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=192,
        loss=dict(
            type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=2e-5)))
