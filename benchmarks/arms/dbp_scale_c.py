# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Decorrelation and its controls. Two CPU cores, Imagenette at 64 px: checks that
# things learn and that nothing got slower; ranks nothing. MAE at a higher rate
# is among the trials.
_configs = '../../configs/{}_vit-192x6-p8_1xb64-coslr-25e_imagenette64.py'
# The trials multiply it by 0.5 to 4.
_rate = {'optim_wrapper.optimizer.lr': 1e-3}
_dbp = _configs.format('dbp_mae/dbp-mae')

baseline = 'mae'
arms = {
    'mae': dict(config=_configs.format('mae/mae'), options=_rate),
    'mae-fast': dict(config=_configs.format('mae/mae-fast'), options=_rate),
    'dbp': dict(config=_dbp, options=_rate),
    # The cost alone.
    'dbp-eta0': dict(config=_dbp, options={**_rate, 'custom_hooks.1.eta': 0.}),
    # Variances alone.
    'dbp-kappa1': dict(config=_dbp, options={**_rate, 'custom_hooks.1.kappa': 1.}),
    'muon': dict(config=_configs.format('dbp_mae/mae-muon'), options=_rate),
}
budget = dict(kind='time', amount=300)
seeds = (0, 1, 2)
tune_seed = 100
