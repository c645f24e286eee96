# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Warm-up, constant rate, cooldown."""
import math

import pytest

from mmeffmae.engine.hooks.stable_schedule import (
    StableScheduleHook,
    stable_factor,
)


def test_factors_by_hand():
    factors = [stable_factor(step, 4, 8, 12) for step in range(12)]
    assert factors == pytest.approx([
        0.25, 0.5, 0.75, 1.0,  # warm-up
        1.0, 1.0, 1.0, 1.0,
        1.0, 1 - math.sqrt(0.25), 1 - math.sqrt(0.5), 1 - math.sqrt(0.75)
    ])
    assert stable_factor(10**6, 4) == 1.0 and stable_factor(0) == 1.0


def test_an_empty_cooldown_is_refused():
    with pytest.raises(ValueError, match=r'cooldown \(5, 5\).*is empty'):
        StableScheduleHook(cooldown=(5, 5))


def rates(runner):
    """The distinct learning rates, ascending."""
    return sorted({group['lr'] for group in runner.optim_wrapper.param_groups})


def test_branch_of_a_run_with_two_rates(tiny_cfg, build_runner):
    """A resumed cooldown starts from the base rates, not from the last ones."""
    changes = dict(
        param_scheduler=None,
        train_cfg=dict(_delete_=True, type='IterBasedTrainLoop', max_iters=3),
        train_dataloader=dict(sampler=dict(type='mmeffmae.InfiniteKeyedSampler')),
        optim_wrapper=dict(paramwise_cfg=dict(bias_lr_mult=0.5)),
        default_hooks=dict(checkpoint=dict(by_epoch=False, interval=3)),
        custom_hooks=[dict(type='mmeffmae.StableScheduleHook', warmup=4)])
    trunk = build_runner(tiny_cfg(changes))
    trunk.train()
    assert rates(trunk) == pytest.approx([0.375e-2, 0.75e-2])
    changes.update(
        resume=True,
        load_from=f'{trunk.work_dir}/iter_3.pth',
        work_dir=f'{trunk.work_dir}/branch',
        train_cfg=dict(_delete_=True, type='IterBasedTrainLoop', max_iters=5),
        custom_hooks=[dict(type='mmeffmae.StableScheduleHook', warmup=4,
                           cooldown=(3, 5))])
    branch = build_runner(tiny_cfg(changes))
    branch.train()
    factor = 1 - math.sqrt(0.5)
    assert rates(branch) == pytest.approx([0.5e-2 * factor, 1e-2 * factor])
