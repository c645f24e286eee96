# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# A tenth of the time of combinations_c: encoders to fine-tune and to compare with
# MAE's after all of it. Two CPU cores, Imagenette at 64 px, 20 seconds of one core.
_configs = '../../configs/{}_vit-192x6-p8_1xb64-coslr-25e_imagenette64.py'
_crop = 'train_dataloader.dataset.pipeline.2.scale'
_low = dict(options={_crop: 32}, cooldown={_crop: 64})

baseline = 'mae'
arms = {
    'mae': dict(config=_configs.format('mae/mae')),
    'mae-fast': dict(
        config=_configs.format('mae/mae-fast'),
        options={'optim_wrapper.optimizer.lr': 2e-3}),
    'muon': dict(config=_configs.format('dbp_mae/mae-muon')),
    'muon+low': dict(config=_configs.format('dbp_mae/mae-muon'), **_low),
}
budget = dict(kind='time', amount=20)
rates = (1, )
seeds = (0, 1, 2)
tune_seed = 100
