# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
# SimMIM on the same encoder: the whole image, with a learnable token on masked
# patches. What UM-MAE is measured against.
_base_ = ['./um-mae_swin-48x12-p8_1xb512-amp-coslr-200e_imagenette128.py']
model = dict(
    neck=dict(_delete_=True, type='mmeffmae.SimMIMDecoder'),
    head=dict(
        norm_pix=False,
        loss=dict(type='mmpretrain.PixelReconstructionLoss', criterion='L1')),
    masking=dict(_delete_=True, type='mmeffmae.WholeImageMasking'))
# An epoch is less than twenty steps.
default_hooks = dict(checkpoint=dict(interval=10))
