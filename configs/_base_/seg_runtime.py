# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
_base_ = './default_runtime.py'
default_scope = 'mmseg'
default_hooks = dict(
    predictions=dict(type='mmeffmae.PredictionsHook', with_labels=False))
visualizer = dict(type='mmseg.SegLocalVisualizer')
