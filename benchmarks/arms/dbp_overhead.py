# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# What decorrelation adds to a step of MAE, by layers and interval of updates:
#     throughput.py --arms benchmarks/arms/dbp_overhead.py --batch-size 64 --json FILE
# The work is on weights, the same at every batch: its share falls as batches grow.
# Five ViT-B with the activations of 64 images take about 15 GiB.
_mae = '../../configs/mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py'


def _dbp(**settings):
    hook = dict(type='mmeffmae.DecorrelationHook', **settings)
    return dict(config=_mae, options={'custom_hooks': [hook]})


peer = 'mae'
arms = {
    'mae': dict(config=_mae),
    'dbp': _dbp(),
    'dbp, every 5th step': _dbp(update_interval=5),
    'dbp, fc2 in 4 blocks': _dbp(fc2_blocks=4),
    'dbp, dense fc2': _dbp(fc2_blocks=1),
}
