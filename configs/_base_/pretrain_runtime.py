# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# For pre-training that predicts pixels: pictures of what is predicted.
_base_ = ['./default_runtime.py']
default_hooks = dict(
    reconstruction=dict(type='mmeffmae.ReconstructionHook', interval=10))
