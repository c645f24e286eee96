# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Imagenette photographs on one CPU core. The pre-trained checkpoint:
#     --cfg-options model.backbone.init_cfg.checkpoint=FILE
# From scratch: model.backbone.init_cfg=None
_base_ = [
    '../../pcae/benchmarks/'
    'pcae-finetune_vit-192x6-p8_1xb64-coslr-6e_imagenette64.py',
]
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmeffmae.UMSwin',
        arch=dict(
            embed_dims=32,
            depths=[2, 2, 2, 2],
            num_heads=[1, 2, 4, 8],
            position_dims=32),
        img_size=64,
        patch_size=8,
        out_type='avg_featmap',
        init_cfg=dict(type='Pretrained', checkpoint='', prefix='backbone.')),
    head=dict(in_channels=256))
