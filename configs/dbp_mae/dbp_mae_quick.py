# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# The built-in mini scenes on two CPU cores, about two minutes.
_base_ = ['../mae/mae_quick.py']
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='mmeffmae.DecorrelationHook', eta=1e-3)
]
