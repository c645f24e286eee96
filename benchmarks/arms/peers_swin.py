# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# A step of UM-MAE with Swin-T beside mmpretrain's own SimMIM and ours, which has
# UM-MAE's encoder:
#     throughput.py --arms benchmarks/arms/peers_swin.py --batch-size 8 --json FILE
_configs = '../../configs/um_mae/{}-amp-coslr-200e_in1k-256px.py'
_simmim = _configs.format('simmim_swin-tiny_8xb64-accum8')

peer = 'mmpretrain-simmim'
arms = {
    'mmpretrain-simmim': dict(config=_simmim, like='mmpretrain-simmim'),
    'simmim': dict(config=_simmim),
    'um-mae': dict(config=_configs.format('um-mae_swin-tiny_8xb128-accum4')),
    'um-mae-fast': dict(
        config=_configs.format('um-mae-fast_swin-tiny_8xb128-accum4')),
}
