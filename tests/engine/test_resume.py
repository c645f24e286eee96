# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""A run that was stopped and resumed equals the unbroken one."""
import os
import random
import signal
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner, find_latest_checkpoint

from mmeffmae.engine.hooks import KeyedRandomnessHook
from mmeffmae.engine.hooks.preemption import Preempted

BY_ITER = dict(
    train_cfg=dict(
        _delete_=True, type='IterBasedTrainLoop', max_iters=12),
    train_dataloader=dict(
        sampler=dict(type='mmeffmae.InfiniteKeyedSampler')),
    param_scheduler=[dict(type='ExponentialLR', gamma=0.9, by_epoch=False)],
    default_hooks=dict(checkpoint=dict(by_epoch=False, interval=6)))
WORKERS = dict(
    train_dataloader=dict(num_workers=2, persistent_workers=True))
PROGRESSIVE = dict(custom_hooks=[dict(
    type='mmeffmae.ProgressiveResolutionHook',
    phases=[dict(until=.25, size=16), dict(until=.6, size=24)])])
FUSED = dict(optim_wrapper=dict(optimizer=dict(fused=True)))
ACCUMULATE = dict(optim_wrapper=dict(accumulative_counts=4))


class SignalAt(Hook):
    """Receive SIGTERM within an iteration."""

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        if runner.iter + 1 == self.iteration:
            os.kill(os.getpid(), signal.SIGTERM)


class RecordLosses(Hook):

    def __init__(self) -> None:
        self.losses = []

    def after_train_iter(self, runner, batch_idx, data_batch, outputs) -> None:
        self.losses.append(outputs['loss'].item())


def difference(first: Runner, second: Runner) -> float:
    """Largest difference of any weight or optimizer state."""
    flat = []
    for runner in (first, second):
        optimizer = runner.optim_wrapper.optimizer.state_dict()['state']
        flat.append(list(runner.model.state_dict().values()) + [
            value for state in optimizer.values() for value in state.values()])
    assert len(flat[0]) == len(flat[1])
    return max(float((a - b).abs().max()) for a, b in zip(*flat))


def on_device(folder) -> dict:
    return dict(train_dataloader=dict(
        collate_fn=dict(type='mmeffmae.whole_batch'),
        dataset=dict(_delete_=True, type='mmeffmae.DeviceImages', scale=32,
                     dataset=dict(type='mmeffmae.UnlabelledImages',
                                  data_root=str(folder)))))


def train(runner: Runner) -> tuple[Runner, list[float]]:
    record = RecordLosses()
    runner.register_hook(record)
    runner.train()
    return runner, record.losses


@pytest.mark.parametrize('changes, stop', [
    pytest.param({}, None, id='epoch'),
    pytest.param({}, random.Random(0).randint(1, 11), id='random'),
    pytest.param({}, 6, id='last-of-epoch'),
    pytest.param(ACCUMULATE, 6, id='accumulation'),
    pytest.param(WORKERS, random.Random(1).randint(7, 11), id='workers'),
    pytest.param(BY_ITER, random.Random(2).randint(1, 11), id='by-iter'),
    pytest.param({**WORKERS, **BY_ITER, 'train_dataloader': {
        **WORKERS['train_dataloader'], **BY_ITER['train_dataloader']}},
        random.Random(3).randint(1, 11), id='by-iter-workers'),
    pytest.param({**PROGRESSIVE, **FUSED}, 5, id='progressive-fused'),
    pytest.param(None, 8, id='device-images'),
])
def test_resumed_run_equals_unbroken_run(changes, stop, tiny_cfg,
                                         build_runner, image_folder, tmp_path):
    if changes is None:
        changes = on_device(image_folder)
    unbroken, losses = train(build_runner(tiny_cfg(changes)))

    cfg = tiny_cfg(changes)
    if stop is None:
        cfg.load_from = str(tmp_path / 'run/epoch_1.pth')
    else:
        cfg.work_dir = str(tmp_path / 'broken')
        runner = build_runner(cfg)
        runner.register_hook(SignalAt(stop))
        with pytest.raises(Preempted) as left:
            runner.train()
        assert left.value.code == 128 + signal.SIGTERM
        # With four accumulated iterations, the update after the signal.
        accumulates = 'accumulative_counts' in changes.get('optim_wrapper', ())
        stop = -(-stop // 4) * 4 if accumulates else stop
        assert find_latest_checkpoint(
            cfg.work_dir).endswith(f'iter_{stop}.pth')
        assert difference(unbroken, runner) > 0.0

    cfg.resume = True
    resumed, rest = train(build_runner(cfg))
    assert resumed.iter == unbroken.iter == 12
    assert rest == losses[-len(rest):]
    assert difference(unbroken, resumed) == 0.0
    # The regular checkpoint has replaced the one of the signal.
    assert not (tmp_path / f'broken/iter_{stop}.pth').exists() or stop == 6


def test_the_images_are_a_function_of_seed_and_epoch_alone(tiny_cfg,
                                                           build_runner):
    """One loss sequence whatever the workers; another seed, another one."""
    losses = [
        train(build_runner(tiny_cfg(changes)))[1]
        for changes in ({}, WORKERS, dict(randomness=dict(seed=1)))
    ]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_seed_of_the_first_run_is_kept(tiny_cfg, build_runner, tmp_path):
    """With seed=None each run draws one, and a resumed run takes it over."""
    cfg = tiny_cfg(dict(randomness=dict(seed=None)))
    first, losses = train(build_runner(cfg))

    cfg.resume = True
    cfg.load_from = str(tmp_path / 'run/epoch_1.pth')
    resumed, rest = train(build_runner(cfg))
    assert resumed.seed == first.seed
    assert rest == losses[6:]
    assert difference(first, resumed) == 0.0


def test_changed_epoch_length_is_refused_in_mid_epoch(tiny_cfg, build_runner,
                                                      tmp_path):
    cfg = tiny_cfg()
    runner = build_runner(cfg)
    runner.register_hook(SignalAt(4))
    with pytest.raises(Preempted):
        runner.train()
    cfg.resume = True
    cfg.train_dataloader.batch_size = 4
    with pytest.raises(ValueError, match='had 6 iterations .* has 3 now'):
        build_runner(cfg).train()


def test_rank_seeds_are_refused(tiny_cfg, build_runner):
    cfg = tiny_cfg(dict(randomness=dict(diff_rank_seed=True)))
    with pytest.raises(ValueError, match='diff_rank_seed=False'):
        build_runner(cfg).train()


def test_ranks_and_iterations_have_their_own_streams():
    class FakeRunner:
        seed, rank, iter = 0, 0, 0

    draws = set()
    for rank in (0, 1):
        for iteration in (0, 1):
            FakeRunner.rank, FakeRunner.iter = rank, iteration
            KeyedRandomnessHook().before_train_iter(FakeRunner)
            draws.add((random.random(), float(torch.rand(()))))
    assert len(draws) == 4
    assert len({d[0] for d in draws}) == len({d[1] for d in draws}) == 4


def test_a_position_before_its_epoch_is_named():
    """As ``FlexibleRunner`` alone would save it, at the seventh of six iterations."""
    loop = SimpleNamespace(dataloader=[None] * 6, iter=7, epoch=2)
    with pytest.raises(ValueError, match='iteration 7 of epoch 3, which begins at 12'):
        KeyedRandomnessHook()._skip_in_epoch(None, loop)
