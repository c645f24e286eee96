# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
_base_ = './default_runtime.py'
default_scope = 'mmdet'
default_hooks = dict(
    predictions=dict(type='mmeffmae.PredictionsHook', pred_score_thr=0.3))
visualizer = dict(type='mmdet.DetLocalVisualizer')
