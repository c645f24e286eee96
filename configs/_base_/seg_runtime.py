# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
_base_ = './default_runtime.py'
default_scope = 'mmseg'
visualizer = dict(type='mmseg.SegLocalVisualizer')
