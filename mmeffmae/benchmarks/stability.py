# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""The largest learning rate at which an arm trains without diverging."""
import math
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Optional

import torch
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from mmeffmae.checkpoint import register_safe_loader
from mmeffmae.evaluation.record import provenance, write_json

from .shards import read_json
from .step_time import new_runner
from .study import Study, training_config
from .tables import markdown_table

#: Factors of the learning rate.
FACTORS = (1, 2, 4, 8, 16)
#: A run is judged by the means of so many equal parts of its losses.
WINDOWS = 10
#: How far above its lowest part a run may end.
TOLERANCE = 0.1


def is_stable(windows: Sequence[Optional[float]]) -> bool:
    """Whether a run learned and stayed where it got.

    All losses are finite, the last window is below the first, and at most
    :data:`TOLERANCE` above the lowest.

    Args:
        windows: Mean losses in their order; None where one was not finite.
    """
    finite = [window for window in windows if window is not None]
    if len(finite) < len(windows):
        return False
    first, last = finite[0], finite[-1]
    return last < first and last <= (1 + TOLERANCE) * min(finite)


class _LossRecord(Hook):
    """Keeps the loss of every iteration, on its device."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Optional[dict] = None,
        outputs: Optional[dict] = None
    ) -> None:
        self.losses.append((outputs or {})['loss'].detach())

    def windows(self, steps: int) -> list[Optional[float]]:
        """Means of the parts; what was not reached counts as not finite."""
        losses = torch.full((steps,), float('nan'))
        if self.losses:
            losses[:len(self.losses)] = torch.stack(self.losses).float().cpu()
        means = [part.mean().item() for part in losses.tensor_split(WINDOWS)]
        return [round(mean, 6) if math.isfinite(mean) else None for mean in means]


@dataclass(frozen=True)
class StabilityRun:
    """An arm at a multiple of its learning rate, constant after the warm-up.

    Attributes:
        study: Where the arm is described; its budget is counted in images.
        arm: Its name.
        factor: Of the learning rate.
        seed: Of weights, order of images, crops and masks.
    """
    study: Study
    arm: str
    factor: float
    seed: int

    @property
    def steps(self) -> int:
        """Optimizer steps.

        Raises:
            ValueError: The budget is not counted in images.
        """
        if self.study.budget['kind'] != 'images':
            raise ValueError(
                f'{self.study.path}: budget.kind {self.study.budget["kind"]!r}: '
                "rates are compared at equal steps, use 'images'")
        batch = self.study.config(self.arm).train_dataloader.batch_size
        return self.study.steps_for(batch, batch, 1.0)

    @property
    def name(self) -> str:
        """Name of the shard: the same for the same work."""
        key = self.study.key(self.arm, self.factor, self.steps)
        return f'{self.study.path.stem}_{self.arm}_{key}_seed{self.seed}'

    def measure(self, path: Path, work_dir: Path) -> None:
        """Train, and write the shard.

        Args:
            path: The shard.
            work_dir: Of the run; removed afterwards.
        """
        steps = self.steps
        config = self.study.config(self.arm, self.factor)
        rate = config.optim_wrapper.optimizer.lr
        config = training_config(
            config, self.seed, self.study.warmup_steps(steps), steps)
        register_safe_loader()
        runner = new_runner(config, work_dir)
        record = _LossRecord()
        runner.register_hook(record, priority='VERY_HIGH')
        try:
            runner.train()
        except FloatingPointError as error:  # of NonFiniteGuardHook
            print(f'  {error}')
        write_json(
            dict(
                kind='stability', study=self.study.path.stem, arm=self.arm,
                factor=self.factor, lr=rate, seed=self.seed, steps=steps,
                windows=record.windows(steps), **provenance(get_device())), path)
        shutil.rmtree(work_dir, ignore_errors=True)


def stability_tables(files: Iterable[Path]) -> str:
    """Final losses by rate, and the largest stable rate, of every study."""
    shards = [read_json(path) for path in files]
    parts = []
    for study in dict.fromkeys(of['study'] for of in shards):
        runs = [of for of in shards if of['study'] == study]
        factors = sorted({of['factor'] for of in runs})
        rows = [_row(arm, [of for of in runs if of['arm'] == arm], factors)
                for arm in dict.fromkeys(of['arm'] for of in runs)]
        parts += [
            f'`{study}`: mean loss of the last tenth of '
            f'{runs[0]["steps"]:,} steps at constant rate, and how many seeds '
            'diverged; the largest factor up to which a seed is stable, one '
            'number a seed.',
            markdown_table(
                ['arm', *(f'rate × {factor:g}' for factor in factors),
                 'largest stable'], rows)]
    return '\n\n'.join(parts)


def _row(arm: str, runs: list[dict], factors: list[float]) -> list[str]:
    cells = []
    for factor in factors:
        stable = [is_stable(of['windows']) for of in runs if of['factor'] == factor]
        ends = [of['windows'][-1] for of in runs
                if of['factor'] == factor and is_stable(of['windows'])]
        lost = len(stable) - len(ends)
        words = [f'{fmean(ends):.3f}'] if ends else []
        words += [f'{lost} of {len(stable)} diverged'] if lost else []
        cells.append(', '.join(words) or '–')
    largest = [str(largest_stable([of for of in runs if of['seed'] == seed]))
               for seed in sorted({of['seed'] for of in runs})]
    return [arm, *cells, ', '.join(largest)]


def largest_stable(runs: list[dict]) -> float:
    """The largest factor below which no rate diverged; 0 if the first did."""
    largest = 0
    for of in sorted(runs, key=lambda of: of['factor']):
        if not is_stable(of['windows']):
            break
        largest = of['factor']
    return largest
