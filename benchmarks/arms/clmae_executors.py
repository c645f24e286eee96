# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# The two executors of ConvFFN, which give equal results, beside MAE:
#     throughput.py --arms benchmarks/arms/clmae_executors.py --json FILE
_clmae = '../../configs/clmae/clmae-light_vit-base-p16_8xb512-amp-coslr-300e_in1k.py'
_mae = '../../configs/mae/mae-light_vit-base-p16_8xb512-amp-coslr-300e_in1k.py'

peer = 'mae-light'
arms = {
    'mae-light': dict(config=_mae),
    'clmae-light, compact': dict(config=_clmae),
    'clmae-light, dense': dict(
        config=_clmae, options={'model.backbone.ffn.executor': 'dense'}),
}
