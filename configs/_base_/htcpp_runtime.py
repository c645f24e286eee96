# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# What detectors with parts of this package that subclass mmdet's need.
_base_ = './det_runtime.py'
custom_imports = dict(
    imports=['mmeffmae.integrations.mmdet'], allow_failed_imports=False)
