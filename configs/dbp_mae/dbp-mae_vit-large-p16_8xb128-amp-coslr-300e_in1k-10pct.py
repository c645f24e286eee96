# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
# Ten images in a hundred of every class, as many as the paper takes. The list:
#     python tools/data/subset_list.py data/imagenet/train \
#         --out data/imagenet/train_10percent.txt
_base_ = ['./dbp-mae_vit-large-p16_8xb512-amp-coslr-300e_in1k.py']
train_dataloader = dict(
    batch_size=128, dataset=dict(ann_file='train_10percent.txt'))
