# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
# The published decoder costs more than the PVT-S that it trains; this one, an
# option of ours, next to nothing.
_base_ = ['./um-mae_pvt-small_8xb128-accum4-amp-coslr-200e_in1k-256px.py']
model = dict(
    neck=dict(decoder_embed_dim=256, decoder_depth=1, decoder_num_heads=8))
