# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import copy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import nn

from mmeffmae.engine.optimizers import MuonAdamW
from mmeffmae.registry import MODELS

ROOT = Path(__file__).parents[3]


def groups_of(model):
    return [dict(params=[model[0].weight], muon=True),
            dict(params=[model[0].bias, *model[1].parameters()], weight_decay=0.)]


def model_of():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5))


def train(model, steps, *optimizers, seed=0):
    torch.manual_seed(seed)
    for _ in range(steps):
        for optimizer in optimizers:
            optimizer.zero_grad()
        model(torch.randn(8, 6)).sin().sum().backward()
        for optimizer in optimizers:
            optimizer.step()


def assert_equal(first, second):
    for a, b in zip(first.parameters(), second.parameters()):
        assert torch.equal(a, b)


def test_is_muon_and_adamw():
    ours, theirs = model_of(), model_of()
    optimizer = MuonAdamW(groups_of(ours), lr=.02, weight_decay=.1)
    matrices, others = groups_of(theirs)
    train(ours, 4, optimizer)
    train(theirs, 4, torch.optim.Muon(
        matrices['params'], lr=.02, weight_decay=.1, eps=1e-8,
        adjust_lr_fn='match_rms_adamw'), torch.optim.AdamW(
            others['params'], lr=.02, betas=(.9, .95), weight_decay=0.))
    assert_equal(ours, theirs)
    assert set(optimizer.state[ours[0].weight]) == {'momentum_buffer'}


def test_resume_and_schedule():
    unbroken = model_of()
    optimizer = MuonAdamW(groups_of(unbroken), lr=.02)
    train(unbroken, 3, optimizer)
    model = copy.deepcopy(unbroken)
    resumed = MuonAdamW(groups_of(model), lr=.5)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for opt in (optimizer, resumed):
        for group in opt.param_groups:
            group['lr'] *= .5
    train(unbroken, 3, optimizer, seed=1)
    train(model, 3, resumed, seed=1)
    assert_equal(unbroken, model)
    before = copy.deepcopy(model)
    for group in resumed.param_groups:
        group['lr'] = 0.
    train(model, 1, resumed)
    assert_equal(model, before)


def test_needs_hidden_matrices():
    model = model_of()
    with pytest.raises(ValueError, match='no group of parameters has muon=True'):
        MuonAdamW(model.parameters())
    with pytest.raises(ValueError, match='2D'):
        MuonAdamW([dict(params=[model[0].bias], muon=True)])


def test_config_gives_it_the_matrices_of_blocks():
    cfg = Config.fromfile(
        ROOT / 'configs/dbp_mae/mae-muon_vit-192x6-p8_1xb64-coslr-25e_imagenette64.py')
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    names = {id(p): name for name, p in model.named_parameters()}
    muon = {names[id(p)] for g in optimizer.param_groups if g['muon']
            for p in g['params']}
    assert muon == {
        name for name, p in model.named_parameters() if p.ndim == 2 and
        ('layers.' in name or 'blocks.' in name)}
    assert len(muon) == 4 * (6 + 2)
    decay = {names[id(p)]: g['weight_decay'] for g in optimizer.param_groups
             for p in g['params']}
    assert decay['backbone.layers.0.attn.qkv.weight'] == .05
    assert decay['backbone.layers.0.attn.qkv.bias'] == 0
