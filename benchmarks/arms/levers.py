# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# What each lever of speed does to a step of MAE, alone and together, beside
# mmpretrain's own MAE in the same sizes:
#     throughput.py --arms benchmarks/arms/levers.py --json FILE
_mae = '../../configs/mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py'
_muon = '../../configs/recommended/mae-muon_vit-base-p16_8xb512-amp-coslr-300e_in1k.py'
_bf16 = {'optim_wrapper.enabled': True}
_compile = {'custom_hooks': [dict(type='mmeffmae.CompileHook')]}
_stock = {'optim_wrapper.optimizer.fused': False}
_light = {
    'model.neck.decoder_embed_dim': 256,
    'model.neck.decoder_depth': 2,
    'model.neck.decoder_num_heads': 8,
}
_half = {'model.masking.decode_ratio': 0.5}
_ratio = {'model.masking.mask_ratio': 0.9}
_recompute = {'model.backbone.with_cp': True, 'model.neck.with_cp': True}
# A phase of ProgressiveResolutionHook.
_small = {'model.backbone.img_size': 112}


def _arm(*levers, **others):
    options = {}
    for lever in levers:
        options.update(lever)
    return dict(config=_mae, options=options, **others)


peer = 'mmpretrain'
arms = {
    'mmpretrain': _arm(_stock, like='mmpretrain-mae'),
    'mmpretrain, bf16': _arm(_stock, _bf16, like='mmpretrain-mae'),
    # The same model as the peer: these change rounding alone.
    'ours': _arm(_stock),
    'fused AdamW': _arm(),
    'bf16': _arm(_stock, _bf16),
    'compile': _arm(_stock, _compile),
    'fused + bf16': _arm(_bf16),
    'fused + bf16 + compile': _arm(_bf16, _compile),
    'recomputed activations': _arm(_recompute),
    # Another optimizer, model or task.
    'Muon': dict(config=_muon),
    'images of half the side': _arm(_small),
    'half decoded': _arm(_half),
    'light decoder': _arm(_light),
    'mask ratio 0.9': _arm(_ratio),
    'light + 0.9': _arm(_light, _ratio),
    'light + half + 0.9': _arm(_light, _half, _ratio),
    'light + half + 0.9 + bf16': _arm(_light, _half, _ratio, _bf16),
    'light + half + 0.9 + bf16 + compile': _arm(
        _light, _half, _ratio, _bf16, _compile),
}
