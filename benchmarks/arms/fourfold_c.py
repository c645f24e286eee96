# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Four times the time of combinations_c: whether what the recommended arm gains lasts,
# and how long MAE takes to where it is after a quarter. Two CPU cores, Imagenette at
# 64 px, 800 seconds of one core an arm and seed.
_configs = '../../configs/{}_vit-192x6-p8_1xb64-coslr-25e_imagenette64.py'
_crop = 'train_dataloader.dataset.pipeline.2.scale'

baseline = 'mae'
arms = {
    'mae': dict(config=_configs.format('mae/mae')),
    'muon+low': dict(
        config=_configs.format('dbp_mae/mae-muon'),
        options={_crop: 32},
        cooldown={_crop: 64}),
}
probes = ('linear', 'knn', 'explained')
budget = dict(kind='time', amount=800)
rates = (1, )
seeds = (0, 1, 2)
tune_seed = 100
