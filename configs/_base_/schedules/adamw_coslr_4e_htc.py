# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# At the segmentors' rate the box heads stay at the shares of their classes.
_base_ = './adamw_coslr_4e.py'
optim_wrapper = dict(optimizer=dict(lr=2e-4))
