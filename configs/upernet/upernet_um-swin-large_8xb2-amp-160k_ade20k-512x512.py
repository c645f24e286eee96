# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
# No recipe of this size was published: stochastic depth is that of fine-tuning.
_base_ = ['./upernet_um-swin-tiny_8xb2-amp-160k_ade20k-512x512.py']
model = dict(
    backbone=dict(arch='large', drop_path_rate=0.2, with_cp=True),
    decode_head=dict(in_channels=[192, 384, 768, 1536]),
    auxiliary_head=dict(in_channels=768))
