# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
_base_ = ['./mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py']
# A quarter of the patches for the first 80 % of the iterations.
custom_hooks = [
    dict(
        type='mmeffmae.ProgressiveResolutionHook',
        phases=[dict(until=0.8, size=112)])
]
