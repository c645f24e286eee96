# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
_base_ = ['./pcae-finetune_vit-base-p16_8xb128-coslr-100e_in1k.py']
model = dict(backbone=dict(drop_ratio=0.2))
