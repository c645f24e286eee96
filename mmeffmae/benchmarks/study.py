# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""A comparison: its arms, and the training config of each."""
from collections.abc import Mapping
from dataclasses import dataclass, fields
from os import PathLike
from pathlib import Path
from typing import Any, Union

from mmengine.config import Config, ConfigDict

from mmeffmae.config_hash import config_hash
from mmeffmae.engine.lr_scaling import scale_lr

#: Ends of the cooldown branches, shares of the budget.
FRACTIONS = (0.25, 0.5, 0.75, 1.0)
#: Share of a branch that cools down.
COOLDOWN = 0.2
#: Every point above is a whole step when the budget is a multiple of this.
STEP_UNIT = 20
#: Factors of the learning rate that are tried by default, at the first fraction.
RATES = (0.5, 1, 2, 4)
#: What a budget can be counted in.
BUDGET_KINDS = ('time', 'images', 'views')

#: No cooldown can change these.
_OF_THE_TRUNK = ('optim_wrapper', 'train_dataloader.batch_size', 'model.backbone',
                 'model.neck', 'data_preprocessor')
_MONITORS = ('KNNMonitorHook', 'ReconstructionHook')
#: With keyed randomness these change no sample.
_LOADING = ('num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor')


@dataclass(frozen=True)
class Study:
    """What an arms file says.

    Attributes:
        path: The file.
        baseline: Name of the arm whose final value sets the target.
        arms: Config file, relative to the arms file, and options merged into
            it, by name: ``dict(config=..., options=..., cooldown=...)``, the
            last of which hold in the cooldown of each branch alone.
        budget: ``kind``, one of :data:`BUDGET_KINDS`, and ``amount``: seconds
            of isolated steps, images, or masked views, of one arm and seed.
        seeds: Seeds of every arm; those of the baseline fix the target.
        tune_seed: Seed of the learning-rate trials, none of ``seeds``.
        rates: Factors of the learning rate to try; a single one is taken untried.
        warmup: Share of the budget.
        probes: Names in :data:`mmeffmae.evaluation.probes.PROBES`, of every
            branch.
        target_probe: The probe that is compared.
        final_probes: Probes of the final read.
    """
    path: Path
    baseline: str
    arms: Mapping[str, Mapping[str, Any]]
    budget: Mapping[str, Any]
    seeds: tuple[int, ...]
    tune_seed: int
    rates: tuple[float, ...] = RATES
    warmup: float = 0.05
    probes: tuple[str, ...] = ('knn', 'linear')
    target_probe: str = 'linear'
    final_probes: tuple[str, ...] = ('knn', 'linear')

    @classmethod
    def from_file(cls, path: Union[str, PathLike]) -> 'Study':
        """Read and check an arms file, a config of the fields above.

        Raises:
            ValueError: A field is missing, unknown or does not fit.
        """
        known = {field.name for field in fields(cls)} - {'path'}
        settings = {
            name: value
            for name, value in Config.fromfile(path).to_dict().items()
            if not name.startswith('_')
        }
        needed = known - {
            'rates', 'warmup', 'probes', 'target_probe', 'final_probes'}
        if wrong := sorted(needed - set(settings)) + sorted(set(settings) - known):
            raise ValueError(
                f'{path}: {", ".join(wrong)} is missing or unknown: an arms file '
                f'needs {", ".join(sorted(needed))} and takes '
                f'{", ".join(sorted(known - needed))}')
        study = cls(path=Path(path), **settings)
        study._check()
        return study

    def _check(self) -> None:
        if self.baseline not in self.arms:
            raise ValueError(
                f'{self.path}: baseline {self.baseline!r} is none of the arms '
                f'{", ".join(self.arms)}')
        if self.budget.get('kind') not in BUDGET_KINDS:
            raise ValueError(
                f'{self.path}: budget.kind {self.budget.get("kind")!r} is unknown: '
                f'use one of {", ".join(BUDGET_KINDS)}')
        if not self.rates:
            raise ValueError(
                f'{self.path}: rates is empty: give the factors of the learning rate '
                'to try, or a single one to take untried')
        if self.target_probe not in self.probes:
            raise ValueError(
                f'{self.path}: target_probe {self.target_probe!r} is none of the '
                f'probes {", ".join(self.probes)}')
        for arm, settings in self.arms.items():
            if wrong := set(settings) - {'config', 'options', 'cooldown'}:
                raise ValueError(
                    f'{self.path}: {", ".join(sorted(wrong))} of the arm {arm} is '
                    'unknown: it takes config, options and cooldown')
            if settings.get('cooldown'):
                self._check_cooldown(arm)
        if self.tune_seed in self.seeds:
            raise ValueError(
                f'{self.path}: tune_seed {self.tune_seed} is one of the seeds: the '
                'rate would be chosen on what it is then measured on')

    def _check_cooldown(self, arm: str) -> None:
        """What a branch goes on with, and is probed as, is that of the trunk."""
        trunk, cooling = (
            self.config(arm, cooling=cooling).to_dict() for cooling in (False, True))
        for path in _OF_THE_TRUNK:
            values = trunk, cooling
            for name in path.split('.'):
                values = tuple(value.get(name) for value in values)
            if values[0] != values[1]:
                raise ValueError(
                    f'{self.path}: the cooldown of the arm {arm} changes {path}, which '
                    'is that of the trunk: set it in options')

    def config(self, arm: str, rate: float = 1.0, cooling: bool = False) -> Config:
        """Config of an arm, its learning rate scaled to the batch and tuned.

        Args:
            arm: Name of the arm.
            rate: Factor of the learning rate.
            cooling: That of the cooldown, not of the trunk.
        """
        settings = self.arms[arm]
        config = Config.fromfile(self.path.parent / settings['config'])
        config.merge_from_dict(dict(settings.get('options') or {}))
        if cooling:
            config.merge_from_dict(dict(settings.get('cooldown') or {}))
        scale_lr(config, world_size=1)
        config.optim_wrapper.optimizer.lr *= rate
        config.train_dataloader.sampler = ConfigDict(
            type='mmeffmae.InfiniteKeyedSampler', shuffle=True)
        return config

    def probed(self, arm: str) -> Config:
        """The config that an arm's encoders are probed by, that of their end."""
        return self.config(arm, cooling=True)

    def parts(self, arm: str, rate: float = 1.0) -> list[tuple[float, Config]]:
        """What any branch of an arm is trained by.

        Returns:
            Share of its steps and config: of all, or of trunk and cooldown.
        """
        if not self.arms[arm].get('cooldown'):
            return [(1.0, self.config(arm, rate))]
        return [(1 - COOLDOWN, self.config(arm, rate)),
                (COOLDOWN, self.config(arm, rate, cooling=True))]

    def key(self, arm: str, rate: float, steps: int) -> str:
        """Twelve digits that name all that decides an arm's results.

        Args:
            arm: Name of the arm.
            rate: Factor of the learning rate.
            steps: The whole budget in optimizer steps.
        """
        schedule = dict(steps=steps, warmup=self.warmup_steps(steps))
        return _settings_hash(self.parts(arm, rate), schedule=schedule)

    def setting(self, arm: str) -> str:
        """Twelve digits that name an arm whatever its rate and budget."""
        parts = self.parts(arm)
        for _, config in parts:
            config.optim_wrapper.optimizer.lr = 1.0
        return _settings_hash(parts)

    def encoder_key(self, arm: str) -> str:
        """Twelve digits that name the untrained encoder and its probes."""
        config = self.probed(arm)
        return config_hash(
            Config(
                dict(
                    backbone=config.model.backbone,
                    data_preprocessor=config.get('data_preprocessor'),
                    monitors=_hooks(config, monitors=True))))

    def warmup_steps(self, steps: int) -> int:
        """Steps of the warm-up in a budget of ``steps``."""
        return round(self.warmup * steps)

    def steps_for(self, images: int, views: int, step_seconds: float) -> int:
        """The budget in optimizer steps.

        Args:
            images: Images of a step.
            views: Masked views of a step.
            step_seconds: Isolated median step time.

        Returns:
            A positive multiple of :data:`STEP_UNIT`.
        """
        of_step = dict(time=step_seconds, images=images, views=views)
        steps = self.budget['amount'] / of_step[self.budget['kind']]
        return max(1, round(steps / STEP_UNIT)) * STEP_UNIT


def trunk_steps(fraction: float, steps: int) -> int:
    """Steps at constant rate before the cooldown that ends at a fraction."""
    return round((1 - COOLDOWN) * fraction * steps)


def training_config(
    config: Config,
    seed: int,
    warmup: int,
    max_iters: int,
    cooldown_begin: int | None = None,
) -> Config:
    """Make a config of :meth:`Study.config` a run of the runner.

    Monitors are left out, since probes are no part of the time.

    Args:
        config: Changed in place.
        seed: Seed of the run.
        warmup: Steps of the warm-up.
        max_iters: End of the run.
        cooldown_begin: First step of the cooldown; None for none.
    """
    cooldown = None if cooldown_begin is None else (cooldown_begin, max_iters)
    schedule = dict(
        type='mmeffmae.StableScheduleHook', warmup=warmup, cooldown=cooldown)
    config.custom_hooks = [*_hooks(config, monitors=False), schedule]
    for name in [*config.default_hooks]:
        if _is_monitor(config.default_hooks[name]):
            del config.default_hooks[name]
    config.param_scheduler = None
    config.train_cfg = dict(by_epoch=False, max_iters=max_iters)
    for name in ('val_cfg', 'val_dataloader', 'val_evaluator'):
        config[name] = None
    # Kept to branch from; the last iteration is always saved.
    config.default_hooks.checkpoint.update(
        by_epoch=False, interval=max_iters + 1, max_keep_ckpts=-1,
        save_param_scheduler=False)
    config.log_processor = dict(by_epoch=False)
    config.log_level = 'ERROR'
    config.merge_from_dict({'randomness.seed': seed})
    return config


def _hooks(config: Config, monitors: bool) -> list:
    """The custom hooks that only watch, or all others."""
    return [
        hook for hook in config.get('custom_hooks') or []
        if _is_monitor(hook) == monitors
    ]


def _is_monitor(hook: Mapping[str, Any]) -> bool:
    return hook['type'].split('.')[-1] in _MONITORS


def _settings_hash(parts: list[tuple[float, Config]], **others: Any) -> str:
    """Hash of the settings that decide what is learned and probed."""
    first, *rest = [_deciding(config) for _, config in parts]
    if rest:
        others['cooldown'] = rest
    return config_hash(Config(dict(**first, **others)))


def _deciding(config: Config) -> dict[str, Any]:
    loader = {
        name: value
        for name, value in config.train_dataloader.items() if name not in _LOADING
    }
    return dict(
        model=config.model,
        data_preprocessor=config.get('data_preprocessor'),
        train_dataloader=loader,
        optim_wrapper=config.optim_wrapper,
        custom_hooks=config.get('custom_hooks'))
