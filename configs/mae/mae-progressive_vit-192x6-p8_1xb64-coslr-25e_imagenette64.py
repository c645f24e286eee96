# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Imagenette photographs on one CPU core, about eight minutes; not run at this length.
_base_ = ['./mae_vit-192x6-p8_1xb64-coslr-25e_imagenette64.py']
# A list replaces that of the base: the monitor once more, and the phases.
custom_hooks = [
    *_base_.custom_hooks,
    dict(
        type='mmeffmae.ProgressiveResolutionHook',
        phases=[dict(until=0.8, size=32)]),
]
