# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""One kernel for AdamW: the same steps, and the same name of the setting."""
import copy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import nn

from mmeffmae.config_hash import config_hash

CONFIGS = Path(__file__).parents[3] / 'configs'


@pytest.mark.parametrize('name', ['mae/mae_quick', 'dbp_mae/mae-muon_vit-192x6-p8_'
                                  '1xb64-coslr-25e_imagenette64'])
def test_fused_steps_equal_the_others(name):
    config = Config.fromfile(CONFIGS / f'{name}.py')
    assert config.optim_wrapper.optimizer.fused
    weights = {}
    for fused in (True, False):
        config.optim_wrapper.optimizer.fused = fused
        torch.manual_seed(0)
        model = nn.ModuleDict(dict(qkv=nn.Linear(6, 6), ln=nn.LayerNorm(6)))
        wrapper = build_optim_wrapper(model, config.optim_wrapper)
        for _ in range(5):
            wrapper.update_params(model.ln(model.qkv(torch.randn(4, 6))).sin().sum())
        weights[fused] = copy.deepcopy(model.state_dict())
    for key, value in weights[True].items():
        torch.testing.assert_close(value, weights[False][key], rtol=1e-6, atol=1e-7)


def test_the_kernel_is_no_part_of_the_setting():
    """Results of a study stay its results."""
    config = Config.fromfile(CONFIGS / 'mae/mae_quick.py')
    name = config_hash(config)
    del config.optim_wrapper.optimizer['fused']
    assert config_hash(config) == name
    config.optim_wrapper.optimizer.lr *= 2
    assert config_hash(config) != name
