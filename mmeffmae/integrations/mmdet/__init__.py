# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Parts that need mmdet, for the ``custom_imports`` of detection configs."""
from .instance_tta import InstanceTTAModel
from .semantic_copy_paste import SemanticCopyPaste

__all__ = ['InstanceTTAModel', 'SemanticCopyPaste']
