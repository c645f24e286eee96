# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Muon alone and with each other thing that pays, beside MAE and MAE-fast; and
# DBP-MAE by the paper's measure, the reconstruction of photographs it never saw.
# Two CPU cores, Imagenette at 64 px, 200 seconds of one core an arm and seed.
_configs = '../../configs/{}_vit-192x6-p8_1xb64-coslr-25e_imagenette64.py'

# Those of mae_muon.py; names of parameters have dots, so it is one option.
_muon = {
    name: dict(muon=True)
    for name in ('qkv.weight', 'attn.proj.weight', 'ffn.layers.0.0.weight',
                 'ffn.layers.1.weight')
}


def _arm(name, **options):
    return dict(config=_configs.format(name), options=options)


def _low(name):
    """On images of half the side until the cooldown, which is at full size."""
    crop = 'train_dataloader.dataset.pipeline.2.scale'
    return dict(config=_configs.format(name), options={crop: 32}, cooldown={crop: 64})


baseline = 'mae'
arms = {
    'mae': _arm('mae/mae'),
    'mae-fast': _arm('mae/mae-fast', **{'optim_wrapper.optimizer.lr': 2e-3}),
    'muon': _arm('dbp_mae/mae-muon'),
    'dbp': _arm('dbp_mae/dbp-mae'),
    'mae+low': _low('mae/mae'),
    'muon+low': _low('dbp_mae/mae-muon'),
    'dbp+low': _low('dbp_mae/dbp-mae'),
    'muon+half': _arm('dbp_mae/mae-muon', **{'model.masking.decode_ratio': 0.5}),
    'muon+ffn': _arm(
        'dbp_mae/mae-muon', **{'model.backbone.ffn': dict(type='mmeffmae.ConvFFN')}),
    'muon+fast': _arm(
        'dbp_mae/mae-muon', **{
            'model.neck.decoder_depth': 1,
            'model.masking.mask_ratio': 0.9,
        }),
    'muon+dbp': _arm(
        'dbp_mae/dbp-mae', **{
            'optim_wrapper.optimizer.type': 'mmeffmae.MuonAdamW',
            'optim_wrapper.paramwise_cfg.custom_keys': _muon,
        }),
}
# Photographs explained are of each arm's own masks: not to compare at another ratio.
probes = ('linear', 'knn', 'explained')
budget = dict(kind='time', amount=200)
rates = (1, )  # the learning rates that scale_c chose; combinations have Muon's
seeds = (0, 1, 2)
tune_seed = 100
