# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
# Linear probe on ImageNet-1K by MAE's recipe.
_base_ = [
    'mmpretrain::mae/benchmarks/'
    'vit-large-p16_8xb2048-linear-coslr-90e_in1k.py'
]
model = dict(
    backbone=dict(
        type='mmeffmae.MaskedViT',
        stem=dict(type='mmeffmae.ConvStem', kind='overlap2'),
        ffn=dict(type='mmeffmae.ConvFFN'),
        share_attn=1,
        init_cfg=dict(
            checkpoint='work_dirs/clmae_vit-large-p16_8xb512-amp-coslr-300e_in1k/'
            'epoch_300.pth')))
optim_wrapper = dict(type='mmeffmae.BFloat16OptimWrapper')
