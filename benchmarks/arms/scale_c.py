# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Two CPU cores, Imagenette at 64 px: checks that things learn and that nothing
# got slower; ranks nothing. Five minutes of one core an arm and seed.
_configs = '../../configs/{}-192x6-p8_1xb64-coslr-{}_imagenette64.py'
# The trials multiply it by 0.5 to 4.
_rate = {'optim_wrapper.optimizer.lr': 1e-3}

baseline = 'mae'
arms = {
    'mae': dict(config=_configs.format('mae/mae_vit', '25e'), options=_rate),
    'mae-fast': dict(
        config=_configs.format('mae/mae-fast_vit', '25e'), options=_rate),
    'emae': dict(config=_configs.format('emae/emae_vit', '6e'), options=_rate),
    'emae-nocons': dict(
        config=_configs.format('emae/emae_vit', '6e'),
        options={**_rate, 'model.head.consistency': None}),
}
budget = dict(kind='time', amount=300)
seeds = (0, 1, 2)
tune_seed = 100
