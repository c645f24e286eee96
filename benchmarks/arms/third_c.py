# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# The recommended arm of combinations_c in a third of the time: encoders to fine-tune
# and to compare with MAE's after all of it; nothing is compared here. Two CPU cores,
# Imagenette at 64 px, 66 seconds of one core.
_crop = 'train_dataloader.dataset.pipeline.2.scale'
_config = '../../configs/dbp_mae/mae-muon_vit-192x6-p8_1xb64-coslr-25e_imagenette64.py'

baseline = 'muon+low'
arms = {
    'muon+low': dict(config=_config, options={_crop: 32}, cooldown={_crop: 64}),
}
budget = dict(kind='time', amount=66)
rates = (1, )
seeds = (0, 1, 2)
tune_seed = 100
probes = ('knn', )
target_probe = 'knn'
