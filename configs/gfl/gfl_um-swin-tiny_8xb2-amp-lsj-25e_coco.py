# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
# UM-MAE's detector as published: it starts from the *fine-tuned* classifier.
#     --cfg-options model.backbone.init_cfg.checkpoint=FILE
_base_ = [
    '../_base_/models/gfl_um-swin-tiny.py',
    '../_base_/datasets/coco_detection_lsj-1024.py',
    '../_base_/det_runtime.py',
    '../_base_/schedules/gfl_um_mae_25e.py',
]
default_hooks = dict(checkpoint=dict(interval=5))
