# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
_base_ = ['../mae/mae_vit-large-p16_8xb512-amp-coslr-300e_in1k.py']
custom_hooks = [dict(type='mmeffmae.DecorrelationHook')]
