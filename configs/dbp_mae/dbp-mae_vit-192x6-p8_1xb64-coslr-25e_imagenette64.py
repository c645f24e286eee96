# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Imagenette photographs on one CPU core, about 20 minutes.
_base_ = ['../mae/mae_vit-192x6-p8_1xb64-coslr-25e_imagenette64.py']
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='mmeffmae.DecorrelationHook', eta=1e-3)
]
