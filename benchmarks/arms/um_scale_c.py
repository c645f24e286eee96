# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Two CPU cores, Imagenette at 64 px: checks that things learn and that nothing
# got slower; ranks nothing. Two and a half minutes of one core an arm and seed.
_configs = ('../../configs/um_mae/{}_swin-32x8-p8_1xb64-coslr-25e_'
            'imagenette64.py')
# The trials multiply it by 0.5 to 4. Probes learn from every third photograph,
# since the whole map costs Swin ten times what it costs to pre-train on.
_options = {
    'optim_wrapper.optimizer.lr': 1e-3,
    'custom_hooks.0.bank.indices': list(range(0, 8469, 3)),
}
_um_mae = _configs.format('um-mae')

# SimMIM on the same encoder is the baseline; the others sweep the share of
# the visible patches that secondary masking hides (um-mae: 0.25).
baseline = 'simmim'
arms = {
    'simmim': dict(config=_configs.format('simmim'), options=_options),
    'um-mae': dict(config=_um_mae, options=_options),
    'um-mae-hidden0': dict(
        config=_um_mae, options={**_options, 'model.masking.hidden_ratio': 0.0}),
    'um-mae-hidden15': dict(
        config=_um_mae, options={**_options, 'model.masking.hidden_ratio': 0.15}),
    'um-mae-hidden45': dict(
        config=_um_mae, options={**_options, 'model.masking.hidden_ratio': 0.45}),
}
budget = dict(kind='time', amount=150)
seeds = (0, 1, 2)
tune_seed = 100
