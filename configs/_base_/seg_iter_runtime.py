# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# For schedules counted in steps.
_base_ = './seg_runtime.py'
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=16000))
log_processor = dict(by_epoch=False)
