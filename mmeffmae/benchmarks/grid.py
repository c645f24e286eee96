# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""The work of a study, in an order that can stop and go on anywhere."""
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from mmengine.device import get_device

from mmeffmae.evaluation.record import provenance, write_json

from .claim import claim
from .probing import probe_encoder
from .shards import Shards, read_json
from .step_time import measure_arms
from .study import FRACTIONS, Study
from .target import fix_target
from .training import Run


class TimeIsUp(Exception):
    """The time that the caller gave is over; what is finished is kept."""


@dataclass(frozen=True)
class Unit:
    """A piece of work.

    Attributes:
        name: For messages, and of the claim.
        done: Whether its shards exist.
        run: Does it.
    """
    name: str
    done: Callable[[], bool]
    run: Callable[[], None]


@dataclass
class Grid:
    """A study with its shards and its folder of checkpoints.

    Several processes may work on one grid: each takes what nobody holds.

    Attributes:
        study: What to measure.
        shards: Where results lie.
        work_dir: Where checkpoints, logs and claims lie.
        stop_after: Seconds after which no further piece is begun.
        country: Named country for CO2, see :class:`EnergyMeter`.
    """
    study: Study
    shards: Shards
    work_dir: Path
    stop_after: float = float('inf')
    country: Optional[str] = None

    def __post_init__(self) -> None:
        self._begin = time.monotonic()

    def time_steps(self, rounds: int = 21) -> None:
        """Measure step times of all arms in turns, and set the budgets.

        A study that gains an arm is timed anew; budgets that are set stay.
        """
        settings = {arm: self.study.setting(arm) for arm in self.study.arms}

        def done() -> bool:
            return self.shards.timing.is_file() and settings == {
                arm: of['setting']
                for arm, of in read_json(self.shards.timing)['arms'].items()
            }

        def run() -> None:
            arms = measure_arms({arm: self.study.parts(arm) for arm in settings},
                                self.work_dir / 'timing', rounds)
            for arm, result in arms.items():
                result['setting'] = settings[arm]
            write_json(
                dict(kind='timing', arms=arms, **provenance(get_device())),
                self.shards.timing)
            self._set_budgets(arms)

        self._work([Unit('timing', done, run)])

    def tune(self, arms: Sequence[str]) -> None:
        """Try every learning rate of the arms at the first fraction, unless one."""
        rates = self.study.rates
        self._work(
            self._trial(arm, rate) for arm in arms for rate in rates
            if len(rates) > 1)

    def train(self, arms: Sequence[str], seeds: Sequence[int]) -> None:
        """Train and probe the arms; the baseline first, then the target.

        Raises:
            TargetError: See :func:`mmeffmae.benchmarks.target.fix_target`.
        """
        baseline = self.study.baseline
        self._work(
            self._untrained(arm, seed) for arm in arms for seed in seeds)
        if baseline in arms:
            self._work(self._training(baseline, seed) for seed in seeds)
        candidates = [arm for arm in arms if arm != baseline]
        if candidates or set(self.study.seeds) <= set(seeds):
            self._fix_target()
        self._work(
            self._training(arm, seed) for seed in seeds for arm in candidates)

    def read_final(self, arms: Sequence[str], seeds: Sequence[int]) -> None:
        """Probe the finished encoders on the validation photographs, once.

        An encoder whose checkpoint is not on this machine is trained again:
        same seed, images, crops and masks.
        """
        self._work(self._final(arm, seed) for seed in seeds for arm in arms)

    def _work(self, units: Iterable[Unit]) -> None:
        """Do what nobody else does, then wait for what others do."""
        open_units = [unit for unit in units if not unit.done()]
        for wait in (False, True):
            for unit in open_units:
                with claim(self.work_dir / 'claims' / unit.name, wait) as mine:
                    if mine and not unit.done():
                        print(f'{unit.name} ...', flush=True)
                        unit.run()

    def _check_time(self) -> None:
        if time.monotonic() - self._begin > self.stop_after:
            raise TimeIsUp(f'{self.stop_after:g} s are over: run the command again')

    def _set_budgets(self, arms: dict[str, dict]) -> None:
        path = self.shards.budget
        budgets = read_json(path)['steps'] if path.is_file() else {}
        for arm, of in arms.items():
            steps = self.study.steps_for(of['images'], of['views'],
                                         of['step_seconds']['median'])
            budgets.setdefault(arm, steps)
        write_json(
            dict(kind='budget', budget=dict(self.study.budget), steps=budgets), path)

    def _steps(self, arm: str) -> int:
        return read_json(self.shards.budget)['steps'][arm]

    def _trial(self, arm: str, rate: float) -> Unit:
        seed, fraction = self.study.tune_seed, FRACTIONS[0]
        run = self._run(arm, seed, rate)
        path = self.shards.trial(arm, self._key(run), seed)

        def train() -> None:
            self._probe_branch(run, fraction, path)
            run.remove()

        return Unit(f'{arm}_rate{rate:g}', path.is_file, train)

    def _untrained(self, arm: str, seed: int) -> Unit:
        path = self._untrained_path(arm, seed)

        def run() -> None:
            self._check_time()
            values = probe_encoder(
                self.study.probed(arm), seed, None, self.study.probes)
            write_json(
                dict(kind='untrained', seed=seed, values=values,
                     **provenance(get_device())), path)

        return Unit(path.stem, path.is_file, run)

    def _training(self, arm: str, seed: int) -> Unit:
        run = self._run(arm, seed, self.best_rate(arm))
        paths = [self._branch_path(run, fraction) for fraction in FRACTIONS]

        def done() -> bool:
            return all(path.is_file() for path in paths)

        def train() -> None:
            for fraction, path in zip(FRACTIONS, paths):
                if not path.is_file():
                    self._probe_branch(run, fraction, path)
            run.keep_last()

        return Unit(f'{arm}_seed{seed}', done, train)

    def _final(self, arm: str, seed: int) -> Unit:
        run = self._run(arm, seed, self.best_rate(arm))
        path = self.shards.final(arm, self._key(run), seed)

        def read() -> None:
            self._check_time()
            checkpoint, cost = run.train_branch(1.0)
            values = probe_encoder(
                self.study.probed(arm), seed, checkpoint,
                self.study.final_probes, split='final')
            # Steps above 0: trained again, since checkpoints had been lost.
            self._write(run, 1.0, values, path, kind='final', cost=cost)
            run.keep_last()

        return Unit(f'{arm}_final{seed}', path.is_file, read)

    def _probe_branch(self, run: Run, fraction: float, path: Path) -> None:
        self._check_time()
        checkpoint, cost = run.train_branch(fraction)
        values = probe_encoder(
            self.study.probed(run.arm), run.seed, checkpoint, self.study.probes)
        self._write(run, fraction, values, path, kind='branch', cost=cost)
        print(f'  {run.arm} seed {run.seed} rate x{run.rate:g}, {100 * fraction:.0f} '
              f'% of the budget: {values}', flush=True)

    def _write(self, run: Run, fraction: float, values: dict[str, float],
               path: Path, **others: Any) -> None:
        of_step = read_json(self.shards.timing)['arms'][run.arm]
        steps = run.end(fraction)
        write_json(
            dict(
                arm=run.arm,
                key=self._key(run),
                seed=run.seed,
                rate=run.rate,
                lr=self.study.config(run.arm, run.rate).optim_wrapper.optimizer.lr,
                fraction=fraction,
                steps=steps,
                images=steps * of_step['images'],
                views=steps * of_step['views'],
                values=values,
                untrained=str(
                    self._untrained_path(run.arm, run.seed).relative_to(
                        self.shards.root)),
                **others,
                **provenance(get_device())), path)

    def best_rate(self, arm: str) -> float:
        """Factor of the best trial, of equals the first; or the only one.

        Raises:
            FileNotFoundError: A trial is missing.
        """
        rates = self.study.rates
        if len(rates) == 1:
            return rates[0]
        seed, values = self.study.tune_seed, {}
        for rate in rates:
            key = self._key(self._run(arm, seed, rate))
            path = self.shards.trial(arm, key, seed)
            if not path.is_file():
                raise FileNotFoundError(
                    f'{path} is not there: the learning rate of {arm} is not tuned '
                    'yet, run the stage "tune" first')
            values[rate] = read_json(path)['values'][self.study.target_probe]
        return max(rates, key=lambda rate: values[rate])

    def _fix_target(self) -> None:
        study = self.study
        runs = [
            self._run(study.baseline, seed, self.best_rate(study.baseline))
            for seed in study.seeds
        ]
        target = fix_target(
            self.shards,
            study.baseline,
            study.target_probe,
            [self._untrained_path(study.baseline, seed) for seed in study.seeds],
            [self._branch_path(run, 1.0) for run in runs],
            [path for arm in study.arms if arm != study.baseline
             for path in self.shards.branches(arm)])
        print(f'target: {target["probe"]} {target["target"]:.2f} %', flush=True)

    def _run(self, arm: str, seed: int, rate: float) -> Run:
        folder = self.work_dir / arm / f'rate{rate:g}_seed{seed}'
        return Run(self.study, arm, seed, rate, self._steps(arm), folder,
                   self.country)

    def _key(self, run: Run) -> str:
        return self.study.key(run.arm, run.rate, run.steps)

    def _branch_path(self, run: Run, fraction: float) -> Path:
        return self.shards.branch(run.arm, self._key(run), run.seed, fraction)

    def _untrained_path(self, arm: str, seed: int) -> Path:
        return self.shards.untrained(self.study.encoder_key(arm), seed)
