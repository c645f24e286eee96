# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Muon for the hidden matrices, AdamW for the rest, at one learning rate.
_base_ = ['./mae_adamw.py']
_hidden = dict(muon=True)
optim_wrapper = dict(
    optimizer=dict(type='mmeffmae.MuonAdamW'),
    paramwise_cfg=dict(
        custom_keys={
            'qkv.weight': _hidden,
            'attn.proj.weight': _hidden,
            'ffn.layers.0.0.weight': _hidden,
            'ffn.layers.1.weight': _hidden,
        }))
