# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
# A quarter of every part is predicted by the other parts: an option of ours,
# which the paper does not have. Two parts still share half of what they predict.
_base_ = ['./emae_vit-base-p16_8xb64-accum8-amp-coslr-300e_in1k.py']
model = dict(masking=dict(decode_ratio=0.25))
