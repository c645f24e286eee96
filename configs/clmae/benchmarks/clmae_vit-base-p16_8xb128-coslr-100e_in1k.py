# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
# Fine-tuning on ImageNet-1K by MAE's recipe; attention stays shared, at the mean
# of the rates of its layers.
_base_ = [
    'mmpretrain::mae/benchmarks/vit-base-p16_8xb128-coslr-100e_in1k.py'
]
model = dict(
    backbone=dict(
        type='mmeffmae.MaskedViT',
        stem=dict(type='mmeffmae.ConvStem', kind='overlap2'),
        ffn=dict(type='mmeffmae.ConvFFN'),
        share_attn=1,
        init_cfg=dict(
            checkpoint='work_dirs/clmae_vit-base-p16_8xb512-amp-coslr-300e_in1k/'
            'epoch_300.pth')))
optim_wrapper = dict(
    constructor='mmeffmae.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(_delete_=True, layer_decay_rate=0.65))
