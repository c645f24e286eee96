# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
# MAE with the decoder of UM-MAE: what the paper compares its ViT-B with.
_base_ = ['./um-mae_vit-base-p16_8xb128-accum4-amp-coslr-200e_in1k.py']
model = dict(
    masking=dict(
        _delete_=True, type='mmeffmae.RandomMasking', mask_ratio=0.75))
