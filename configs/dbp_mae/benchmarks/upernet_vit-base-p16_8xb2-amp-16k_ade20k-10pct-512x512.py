# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
# A fixed tenth of ADE20K, for as many epochs as 160,000 steps are of all of it.
# The list, with data_root's folder for ROOT:
#     python tools/data/subset_list.py ROOT/images/training --stems \
#         --out ROOT/train_10percent.txt
_base_ = ['../../upernet/upernet_vit-base-p16_8xb2-amp-160k_ade20k-512x512.py']
train_dataloader = dict(dataset=dict(ann_file='train_10percent.txt'))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=150),
    dict(
        type='PolyLR',
        power=1.0,
        eta_min=0.0,
        by_epoch=False,
        begin=150,
        end=16000)
]
train_cfg = dict(max_iters=16000, val_interval=1600)
default_hooks = dict(checkpoint=dict(interval=1600))
