# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# How fast R may learn: DBP-MAE at three rates of R beside MAE, at equal images. Two CPU
# cores, Imagenette at 64 px, about five minutes of one core an arm and seed.
_dbp = '../../configs/dbp_mae/dbp-mae_vit-192x6-p8_1xb64-coslr-25e_imagenette64.py'


def _arm(eta):
    return dict(config=_dbp, options={'custom_hooks.1.eta': eta})


baseline = 'mae'
arms = {
    'mae': dict(
        config='../../configs/mae/mae_vit-192x6-p8_1xb64-coslr-25e_imagenette64.py'),
    'dbp-eta1e-2': _arm(1e-2),
    'dbp-eta1e-3': _arm(1e-3),
    'dbp-eta1e-4': _arm(1e-4),
}
budget = dict(kind='images', amount=37120)
rates = (1, )  # what scale_c chose for both
seeds = (0, )
tune_seed = 100
