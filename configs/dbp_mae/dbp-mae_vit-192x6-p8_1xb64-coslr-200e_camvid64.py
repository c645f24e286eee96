# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# CamVid's own photographs, 64 px crops, on one CPU core: a narrow domain.
_base_ = ['./mae_vit-192x6-p8_1xb64-coslr-200e_camvid64.py']
custom_hooks = [dict(type='mmeffmae.DecorrelationHook', eta=1e-3)]
# An epoch is less than twenty steps.
default_hooks = dict(checkpoint=dict(interval=10))
