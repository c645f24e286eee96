# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
# Any folder of images:
#     --cfg-options train_dataloader.dataset.data_root=FOLDER
_base_ = [
    '../_base_/models/mae_vit-base-p16.py',
    '../_base_/datasets/folder.py',
    '../_base_/schedules/mae_muon.py',
    '../_base_/schedules/coslr_300e.py',
    '../_base_/pretrain_runtime.py',
]
# As wide for ViT-S as MAE's for ViT-B.
model = dict(
    backbone=dict(arch='s'),
    neck=dict(decoder_embed_dim=256, decoder_num_heads=8))
train_dataloader = dict(batch_size=256)
