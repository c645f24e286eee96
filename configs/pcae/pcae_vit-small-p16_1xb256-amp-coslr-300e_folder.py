# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
# Any folder of images:
#     --cfg-options train_dataloader.dataset.data_root=FOLDER
_base_ = [
    '../_base_/models/pcae_vit-base-p16.py',
    '../_base_/datasets/folder.py',
    '../_base_/schedules/mae_adamw.py',
    '../_base_/schedules/coslr_300e.py',
    '../_base_/default_runtime.py',
]
# 0.9999 is for runs of 100,000 iterations; the log warns if it is too slow.
# A decoder as wide for ViT-S as MAE's for ViT-B.
model = dict(
    backbone=dict(arch='s'),
    neck=dict(decoder_embed_dim=256, decoder_num_heads=8),
    teacher=dict(momentum=0.999))
train_dataloader = dict(batch_size=256)
