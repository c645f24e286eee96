# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import copy
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import distributed, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from mmeffmae.engine.optimizers import MuonAdamW, newton_schulz
from mmeffmae.engine.optimizers.newton_schulz import orthogonalisation_macs
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


#: Wide and tall ones of a size, alone and several.
SHAPES = [(24, 8), (8, 8), (8, 24), (16, 8), (24, 8)]


def matrices_of(seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


def stepped(make, steps=3):
    """Matrices and momenta after steps on gradients; the fourth has none at first."""
    parameters = [nn.Parameter(m) for m in matrices_of(0)]
    optimizer = make(parameters)
    for step in range(steps):
        for i, (p, gradient) in enumerate(zip(parameters, matrices_of(step + 1))):
            p.grad = gradient if (i, step) != (3, 0) else None
        optimizer.step()
    return parameters, [optimizer.state[p]['momentum_buffer'] for p in parameters]


def muon_of(parameters):
    return MuonAdamW([dict(params=parameters, muon=True)], lr=.1, weight_decay=.1)


@pytest.mark.parametrize('nesterov', [True, False])
def test_matrices_of_all_shapes_at_once_step_as_one_by_one(nesterov):
    def ours(parameters):
        return MuonAdamW([dict(params=parameters, muon=True, nesterov=nesterov)],
                         lr=.1, weight_decay=.1)

    def theirs(parameters):
        return torch.optim.Muon(parameters, lr=.1, weight_decay=.1, eps=1e-8,
                                nesterov=nesterov, adjust_lr_fn='match_rms_adamw')

    (weights, momenta), (expected, their_momenta) = stepped(ours), stepped(theirs)
    for mine, other in zip(momenta, their_momenta):
        assert torch.equal(mine, other)
    for mine, other, first in zip(weights, expected, matrices_of(0)):
        torch.testing.assert_close(mine, other, atol=2e-3, rtol=0)
        assert (other - first).abs().max() > .1


class CountedOps(TorchDispatchMode):
    """How often the device is asked for what."""

    def __init__(self):
        super().__init__()
        self.calls = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.calls[function.overloadpacket.__name__] += 1
        return function(*args, **(kwargs or {}))


def test_products_are_of_shapes_not_of_matrices():
    """A GPU would wait for each. Two shapes in the first step, then three."""
    with CountedOps() as ops:
        stepped(muon_of, steps=2)
    assert (ops.calls['bmm'], ops.calls['baddbmm']) == (5 * 5, 5 * 10)
    assert not {'mm', 'addmm', 'matmul'} & set(ops.calls)


def test_a_step_of_vit_s_starts_a_tenth_of_torchs_operations():
    """With its decoder; those that only look at a tensor otherwise are left out."""
    shapes = [
        shape for width, depth in ((384, 12), (256, 8)) for _ in range(depth)
        for shape in ((3 * width, width), (width, width), (4 * width, width),
                      (width, 4 * width))]
    counts = []
    for make in (lambda parameters: torch.optim.Muon(parameters), muon_of):
        parameters = [nn.Parameter(torch.empty(s, device='meta')) for s in shapes]
        optimizer = make(parameters)
        for parameter in parameters:
            parameter.grad = torch.empty_like(parameter)
        optimizer.step()
        with CountedOps() as ops:
            optimizer.step()
        views = {'permute', 'transpose', 't', 'expand', 'view', '_unsafe_view',
                 'unbind', 'detach', 'alias', '_record_function_enter_new',
                 '_RecordFunction', '_record_function_exit'}
        counts.append(sum(n for name, n in ops.calls.items() if name not in views))
    assert counts[0] == 1840 and counts[1] <= 150


@pytest.mark.parametrize('hosts, groups', [
    ('aabb', [[0, 1], [2, 3]]), ('aab', None), ('abc', None)])
def test_computers_share_only_within_and_if_all_alike(hosts, groups, monkeypatch):
    def all_gather_object(found, own):
        found[:] = hosts

    made = []
    monkeypatch.setattr(newton_schulz, 'get_world_size', lambda: len(hosts))
    monkeypatch.setattr(distributed, 'all_gather_object', all_gather_object)
    monkeypatch.setattr(
        distributed, 'new_subgroups_by_enumeration',
        lambda ranks: made.append(ranks) or ('group', []))
    sharing = newton_schulz.NodeSharing()
    assert made == ([groups] if groups else [])
    assert sharing._group == ('group' if groups else None)


def _work_on_a_rank(rank, folder):
    distributed.init_process_group(
        'gloo', f'file://{folder}/store', rank=rank, world_size=2)
    with FlopCounterMode(display=False) as counter:
        result = stepped(muon_of)
    torch.save((*result, counter.get_total_flops()), folder / f'{rank}.pth')
    distributed.barrier()
    os._exit(0)  # Gloo's destructors wait for each other, now and then for ever.


def test_two_processes_share_the_work_and_step_as_one(tmp_path):
    # New interpreters: a fork of a process with threads can hang.
    workers = [
        subprocess.Popen([sys.executable, __file__, str(rank), str(tmp_path)])
        for rank in range(2)
    ]
    for worker in workers:
        assert worker.wait(240) == 0
    alone = stepped(muon_of)
    for rank in range(2):
        *shared, flops = torch.load(tmp_path / f'{rank}.pth')
        for expected, found in zip(alone, shared):
            assert all(map(torch.equal, expected, found))
        # The first of two or three 8 × 24, and the only one of the other shapes.
        wide, square, half = map(orthogonalisation_macs, ((8, 24), (8, 8), (8, 16)))
        assert flops / 2 == 3 * (2 - rank) * wide + (1 - rank) * (
            3 * square + 2 * half)


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
    with pytest.raises(ValueError, match=r'shape \(5,\) has muon=True'):
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


if __name__ == '__main__':
    _work_on_a_rank(int(sys.argv[1]), Path(sys.argv[2]))
