# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Every method on a plain ViT, its controls and both baselines. Two CPU cores,
# Imagenette at 64 px: checks that things learn and that nothing got slower; ranks
# nothing. Five minutes of one core an arm and seed.
_configs = '../../configs/{}-192x6-p8_1xb64-coslr-{}_imagenette64.py'
# The trials multiply it by 0.5 to 4.
_rate = {'optim_wrapper.optimizer.lr': 1e-3}


def _arm(name, epochs='25e', **options):
    return dict(config=_configs.format(name, epochs), options={**_rate, **options})


def _pcae(momentum):
    # It stays as it is: its cosine would end with each branch, as the rate's would.
    return _arm('pcae/pcae_vit', **{
        'model.teacher.momentum': momentum,
        'model.teacher.end_momentum': momentum,
    })


baseline = 'mae'
arms = {
    'mae': _arm('mae/mae_vit'),
    'mae-fast': _arm('mae/mae-fast_vit'),
    'emae': _arm('emae/emae_vit', '6e'),
    'emae-nocons': _arm('emae/emae_vit', '6e', **{'model.head.consistency': None}),
    'pcae-m996': _pcae(0.996),
    'pcae-m990': _pcae(0.99),
    'pcae-m999': _pcae(0.999),
    'dbp': _arm('dbp_mae/dbp-mae_vit'),
    # The cost alone: it learns what MAE learns.
    'dbp-eta0': _arm('dbp_mae/dbp-mae_vit', **{'custom_hooks.1.eta': 0.}),
    # Variances alone. MAE at a higher rate, the other control, is among its trials.
    'dbp-kappa1': _arm('dbp_mae/dbp-mae_vit', **{'custom_hooks.1.kappa': 1.}),
    'muon': _arm('dbp_mae/mae-muon_vit'),
    'clmae': _arm('clmae/clmae_vit'),
    'clmae-fast': _arm('clmae/clmae-fast_vit'),
    'mae+stem': _arm(
        'mae/mae_vit', **{'model.backbone.stem': dict(type='mmeffmae.ConvStem')}),
    'mae+ffn': _arm(
        'mae/mae_vit', **{'model.backbone.ffn': dict(type='mmeffmae.ConvFFN')}),
    'mae+sharing': _arm('mae/mae_vit', **{'model.backbone.share_attn': 1}),
}
budget = dict(kind='time', amount=300)
seeds = (0, 1, 2)
tune_seed = 100
