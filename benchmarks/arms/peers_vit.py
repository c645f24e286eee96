# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# A step of every method on ViT-B beside mmpretrain's own MAE:
#     throughput.py --arms benchmarks/arms/peers_vit.py --batch-size 8 --json FILE
# What DBP-MAE adds is the same at every batch: see dbp_overhead.py at 64 images.
_configs = '../../configs/{}_vit-base-p16_{}-amp-coslr-300e_in1k.py'


def _arm(name, batch='8xb512', **others):
    return dict(config=_configs.format(name, batch), **others)


peer = 'mmpretrain-mae'
arms = {
    'mmpretrain-mae': _arm('mae/mae', like='mmpretrain-mae'),
    'mae': _arm('mae/mae'),
    'mae-fast': _arm('mae/mae-fast'),
    'emae': _arm('emae/emae', '8xb64-accum8'),
    'pcae': _arm('pcae/pcae'),
    'clmae': _arm('clmae/clmae'),
    'dbp-mae': _arm('dbp_mae/dbp-mae'),
}
