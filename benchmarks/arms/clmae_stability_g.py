# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# "Sharing stabilises training" (CLMAE's abstract): tied against untied at
# multiples of the learning rate, for tools/benchmarks/stability.py.
# One GPU, Imagenette at 112 px: 1,000 steps a run.
_config = '../../configs/clmae/clmae_vit-tiny-p8_1xb512-amp-coslr-200e_imagenette112.py'
_rate = {}

baseline = 'untied'
arms = {
    'untied': dict(
        config=_config, options={**_rate, 'model.backbone.share_attn': None}),
    'tied': dict(config=_config, options=_rate),
}
budget = dict(kind='images', amount=512_000)
seeds = (0, 1, 2)
tune_seed = 100
