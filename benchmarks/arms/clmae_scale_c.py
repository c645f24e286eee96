# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# CLMAE, what each of its parts does to MAE, and both baselines. Two CPU cores,
# Imagenette at 64 px: checks that things learn and that nothing got slower;
# ranks nothing. Five minutes of one core an arm and seed.
_configs = '../../configs/{}_vit-192x6-p8_1xb64-coslr-25e_imagenette64.py'
# The trials multiply it by 0.5 to 4.
_rate = {'optim_wrapper.optimizer.lr': 1e-3}


def _arm(name, **parts):
    backbone = {f'model.backbone.{part}': of for part, of in parts.items()}
    return dict(config=_configs.format(name), options={**_rate, **backbone})


baseline = 'mae'
arms = {
    'mae': _arm('mae/mae'),
    'mae-fast': _arm('mae/mae-fast'),
    'clmae': _arm('clmae/clmae'),
    'clmae-fast': _arm('clmae/clmae-fast'),
    'mae+stem': _arm('mae/mae', stem=dict(type='mmeffmae.ConvStem')),
    'mae+ffn': _arm('mae/mae', ffn=dict(type='mmeffmae.ConvFFN')),
    'mae+sharing': _arm('mae/mae', share_attn=1),
}
budget = dict(kind='time', amount=300)
seeds = (0, 1, 2)
tune_seed = 100
