# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
# The baseline of DBP-MAE on the same tenth of the images.
_base_ = ['./dbp-mae_vit-base-p16_8xb128-amp-coslr-300e_in1k-10pct.py']
custom_hooks = []
