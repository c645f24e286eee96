# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
_base_ = './mae_vit-tiny-p8.py'
model = dict(
    type='mmeffmae.PCAE',
    head=dict(_delete_=True, type='mmeffmae.FeatureHead'),
    masking=dict(type='mmeffmae.ComplementaryMasking'),
    teacher=dict(momentum=0.996, keep_ratio=0.5))
