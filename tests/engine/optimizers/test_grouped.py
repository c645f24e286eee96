# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import nn

from mmeffmae.config_hash import config_hash
from mmeffmae.registry import MODELS

CONFIGS = Path(__file__).parents[3] / 'configs'


def settings_of(wrapper):
    """What the optimizer does with each parameter."""
    return {
        parameter: {key: value for key, value in group.items() if key != 'params'}
        for group in wrapper.optimizer.param_groups for parameter in group['params']}


def test_a_parameter_that_is_in_the_model_twice_is_refused():
    config = dict(
        type='OptimWrapper', optimizer=dict(type='AdamW', lr=.1, weight_decay=.1),
        constructor='mmeffmae.GroupedOptimWrapperConstructor',
        paramwise_cfg=dict(norm_decay_mult=0.))
    model = nn.ModuleDict(dict(a=nn.Linear(2, 2), b=nn.Linear(2, 2)))
    model.b.weight = model.a.weight
    with pytest.raises(ValueError, match='bypass_duplicate'):
        build_optim_wrapper(model, config)
    config['paramwise_cfg']['bypass_duplicate'] = True
    wrapper = build_optim_wrapper(model, config)
    assert len(settings_of(wrapper)) == 3


@pytest.mark.parametrize('name, count', [
    ('mae/mae_quick', 3),
    ('um_mae/um_mae_quick', 3),
    ('dbp_mae/mae-muon_vit-192x6-p8_1xb64-coslr-25e_imagenette64', 4),
])
def test_few_groups_with_the_settings_of_the_default(name, count):
    config = Config.fromfile(CONFIGS / f'{name}.py')
    model = MODELS.build(config.model)
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    assert len(wrapper.optimizer.param_groups) == count
    key = config_hash(config)
    del config.optim_wrapper['constructor']
    assert config_hash(config) == key  # results of a study stay its results
    default = build_optim_wrapper(model, config.optim_wrapper)
    assert len(default.optimizer.param_groups) > count
    ours, theirs = settings_of(wrapper), settings_of(default)
    assert ours == theirs
    assert {*ours} == {p for p in model.parameters() if p.requires_grad}
