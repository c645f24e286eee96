# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Runs of a study: a trunk at constant rate, and branches that cool down."""
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmeffmae.checkpoint import register_safe_loader

from .energy import EnergyMeter
from .step_time import new_runner
from .study import Study, training_config, trunk_steps


class PeakMemory(Hook):
    """The allocator's peak over all runs that it is registered in.

    mmengine's log forgets the peak whenever it prints it, so that the one at the
    end of training may hold no step.
    """

    # Before LoggerHook.
    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self.bytes = 0

    def before_train(self, runner: Runner) -> None:
        """Forget what happened before."""
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Look, before others forget."""
        if torch.cuda.is_available():
            self.bytes = max(self.bytes, torch.cuda.max_memory_allocated())


@dataclass(frozen=True)
class Run:
    """An arm at one learning rate with one seed.

    Attributes:
        study: Where the arm is described.
        arm: Its name.
        seed: Seed of weights, order of images, crops and masks.
        rate: Factor of the learning rate.
        steps: The whole budget.
        folder: Where checkpoints are kept.
        country: Named country for CO2, see :class:`EnergyMeter`.
    """
    study: Study
    arm: str
    seed: int
    rate: float
    steps: int
    folder: Path
    country: Optional[str] = None

    def end(self, fraction: float) -> int:
        """Steps of the branch that ends at a fraction of the budget."""
        return round(fraction * self.steps)

    def train_branch(self, fraction: float) -> tuple[Path, dict[str, Any]]:
        """Train the trunk to where a branch leaves it, then the branch.

        Whatever an earlier call has trained is taken from its checkpoints.

        Args:
            fraction: End of the branch, share of the budget.

        Returns:
            The checkpoint, and what its steps took in this call.
        """
        begin, end = trunk_steps(fraction, self.steps), self.end(fraction)
        branch = f'branch_{end}'
        before = min(begin, self._position('trunk'))
        before += max(0, self._position(branch) - begin)
        start, peak = time.process_time(), PeakMemory()
        with EnergyMeter(self.country) as meter:
            # The trunk of a finished branch may be gone.
            path = _checkpoints(self.folder / branch).get(end)
            if path is not None:
                before = end
            else:
                path = self._train(
                    branch, end, peak, (begin, self._train('trunk', begin, peak)))
        cost = dict(
            steps=end - before,
            cpu_seconds=round(time.process_time() - start, 2),
            energy=meter.record())
        if peak.bytes:
            cost['peak_bytes'] = peak.bytes
        return path, cost

    def keep_last(self) -> None:
        """Remove all checkpoints but the one of the finished encoder."""
        for folder in self.folder.iterdir():
            if folder.name != f'branch_{self.steps}':
                shutil.rmtree(folder)

    def remove(self) -> None:
        """Remove all checkpoints."""
        shutil.rmtree(self.folder)

    def _position(self, name: str) -> int:
        return max(_checkpoints(self.folder / name), default=0)

    def _train(
        self,
        name: str,
        max_iters: int,
        peak: PeakMemory,
        start: Optional[tuple[int, Path]] = None,
    ) -> Path:
        """Train to an iteration from the nearest checkpoint before it.

        Args:
            name: Sub-folder of the run.
            max_iters: Where to stop.
            peak: Watches the memory.
            start: Iteration and checkpoint of the trunk, from where the run
                cools down.
        """
        folder = self.folder / name
        known = _checkpoints(folder)
        if max_iters in known:
            return known[max_iters]
        if start is not None:
            known[start[0]] = start[1]
        config = training_config(
            self.study.config(self.arm, self.rate, cooling=start is not None),
            self.seed, self.study.warmup_steps(self.steps), max_iters,
            cooldown_begin=start and start[0])
        if before := [step for step in known if step < max_iters]:
            config.resume, config.load_from = True, str(known[max(before)])
        register_safe_loader()
        runner = new_runner(config, folder)
        runner.register_hook(peak)
        runner.train()
        return folder / f'iter_{max_iters}.pth'


def _checkpoints(folder: Path) -> dict[int, Path]:
    """Finished checkpoints by iteration."""
    found = {}
    for path in folder.glob('iter_*.pth'):
        if match := re.fullmatch(r'iter_(\d+)\.pth', path.name):
            found[int(match[1])] = path
    return found
