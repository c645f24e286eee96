# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import math
from typing import Optional

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmeffmae.registry import HOOKS


def stable_factor(
    step: int,
    warmup: int = 0,
    cooldown_begin: Optional[int] = None,
    cooldown_end: Optional[int] = None,
) -> float:
    """Factor of the learning rate: warm-up, constant, cooldown.

    Linear warm-up to 1, which its last step reaches; then 1; from
    ``cooldown_begin`` on 1 - sqrt(share of the cooldown that is past), the
    shape of Hägele et al. (2024, https://arxiv.org/abs/2405.18392).

    Args:
        step: Finished optimizer steps.
        warmup: Steps of the warm-up.
        cooldown_begin: First step of the cooldown, still at 1; None for none.
        cooldown_end: Step at which the rate would be 0, the end of the run.

    Returns:
        The factor, within 0 and 1.
    """
    factor = min(1.0, (step + 1) / warmup) if warmup else 1.0
    if cooldown_begin is None or step < cooldown_begin:
        return factor
    assert cooldown_end is not None
    past = (step - cooldown_begin) / (cooldown_end - cooldown_begin)
    return factor * (1 - math.sqrt(min(1.0, past)))


@HOOKS.register_module()
class StableScheduleHook(Hook):
    """Constant learning rate with an optional cooldown, see
    :func:`stable_factor`.

    The rate is a function of the iteration alone, unlike mmengine's
    schedulers, whose state a checkpoint carries: any number of cooldowns can
    branch off one run by resuming its checkpoints. Leave ``param_scheduler``
    out of the config. Rates that differ between parameters keep their ratio.

    Args:
        warmup: Iterations of the warm-up.
        cooldown: First iteration of the cooldown and the end of the run.

    Raises:
        ValueError: The cooldown is empty.
    """

    # Before RuntimeInfoHook, which logs the learning rate.
    priority = 'HIGHEST'

    def __init__(
        self, warmup: int = 0, cooldown: Optional[tuple[int, int]] = None
    ) -> None:
        if cooldown is not None and not 0 <= cooldown[0] < cooldown[1]:
            raise ValueError(
                f'cooldown {tuple(cooldown)} (StableScheduleHook) is empty: give '
                'its first iteration and the end of the run')
        self.warmup = warmup
        self.cooldown = cooldown

    def before_run(self, runner: Runner) -> None:
        """Remember the rates of the config, before a resume changes them."""
        for group in runner.optim_wrapper.param_groups:
            group.setdefault('initial_lr', group['lr'])

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Set the rates of the iteration."""
        factor = stable_factor(
            runner.iter, self.warmup, *(self.cooldown or (None, None)))
        for group in runner.optim_wrapper.param_groups:
            group['lr'] = factor * group['initial_lr']
