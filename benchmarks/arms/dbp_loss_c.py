# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# DBP-MAE by the paper's measure: time to the reconstruction of photographs that MAE
# ends with. Two CPU cores, Imagenette at 64 px, 200 seconds of one core an arm and
# seed.
_configs = '../../configs/dbp_mae/{}_vit-192x6-p8_1xb64-coslr-25e_imagenette64.py'

baseline = 'mae'
arms = {
    'mae': dict(
        config='../../configs/mae/mae_vit-192x6-p8_1xb64-coslr-25e_imagenette64.py'),
    'dbp': dict(config=_configs.format('dbp-mae')),
    'dbp-kappa0.1': dict(
        config=_configs.format('dbp-mae'), options={'custom_hooks.1.kappa': .1}),
    'muon': dict(config=_configs.format('mae-muon')),
}
probes = ('explained', 'linear')
target_probe = 'explained'
final_probes = ('explained', 'linear')
budget = dict(kind='time', amount=200)
rates = (1, )  # what scale_c chose for MAE, DBP-MAE and Muon
seeds = (0, 1, 2)
tune_seed = 100
