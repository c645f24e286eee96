# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
_base_ = ['../mae/mae_vit-tiny-p8_1xb512-amp-coslr-200e_imagenette112.py']
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='mmeffmae.DecorrelationHook', eta=1e-3)
]
# An epoch is less than twenty steps.
default_hooks = dict(checkpoint=dict(interval=10))
