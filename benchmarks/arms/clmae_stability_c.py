# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# "Sharing stabilises training" (CLMAE's abstract): tied against untied at
# multiples of the learning rate, for tools/benchmarks/stability.py.
# Two CPU cores, Imagenette at 64 px: 200 steps a run, a minute and a half of one core.
_config = '../../configs/clmae/clmae_vit-192x6-p8_1xb64-coslr-25e_imagenette64.py'
_rate = {'optim_wrapper.optimizer.lr': 1e-3}

baseline = 'untied'
arms = {
    'untied': dict(
        config=_config, options={**_rate, 'model.backbone.share_attn': None}),
    'tied': dict(config=_config, options=_rate),
}
budget = dict(kind='images', amount=12_800)
seeds = (0, 1, 2)
tune_seed = 100
