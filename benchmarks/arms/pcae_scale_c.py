# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Two CPU cores, Imagenette at 64 px: checks that things learn and that nothing
# got slower; ranks nothing. Five minutes of one core an arm and seed.
_configs = '../../configs/{}-192x6-p8_1xb64-coslr-25e_imagenette64.py'
# The trials multiply it by 0.5 to 4.
_rate = {'optim_wrapper.optimizer.lr': 1e-3}
_pcae = _configs.format('pcae/pcae_vit')

baseline = 'mae'
# The momentum stays as it is: its cosine would end with each branch, as the
# learning rate's would.
arms = {
    'mae': dict(config=_configs.format('mae/mae_vit'), options=_rate),
    'mae-fast': dict(config=_configs.format('mae/mae-fast_vit'), options=_rate),
    **{
        f'pcae-m{1000 * momentum:.0f}': dict(
            config=_pcae,
            options={
                **_rate,
                'model.teacher.momentum': momentum,
                'model.teacher.end_momentum': momentum,
            })
        for momentum in (0.99, 0.996, 0.999)
    },
}
budget = dict(kind='time', amount=300)
seeds = (0, 1, 2)
tune_seed = 100
