# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
_base_ = ['./mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py']
# 64 and then 100 patches in place of 196 for the first 60 % of the iterations.
custom_hooks = [
    dict(
        type='mmeffmae.ProgressiveResolutionHook',
        phases=[dict(until=0.4, size=128), dict(until=0.6, size=160)])
]
