# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Imagenette photographs on one CPU core, about an hour.
# SimMIM on the same encoder: the whole image, with a learnable token on masked
# patches. What UM-MAE is measured against.
_base_ = ['./um-mae_swin-32x8-p8_1xb64-coslr-25e_imagenette64.py']
model = dict(
    neck=dict(_delete_=True, type='mmeffmae.SimMIMDecoder'),
    head=dict(
        norm_pix=False,
        loss=dict(type='mmpretrain.PixelReconstructionLoss', criterion='L1')),
    masking=dict(_delete_=True, type='mmeffmae.WholeImageMasking'))
