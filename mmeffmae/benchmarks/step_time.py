# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Isolated step times of the arms of a study, taken in turns."""
import itertools
import math
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from mmeffmae.evaluation.cost import saved_bytes
from mmeffmae.evaluation.throughput import clock, interleave, spread

from .study import training_config

_numbers = itertools.count()


def new_runner(config: Config, work_dir: Path) -> Runner:
    """A runner whose log and message hub are its own.

    mmengine names both after the time, in seconds.
    """
    config.work_dir = str(work_dir)
    config.experiment_name = f'{work_dir.name}_{next(_numbers)}'
    return Runner.from_cfg(config)


def started_runner(config: Config, work_dir: Path) -> Runner:
    """A runner that is ready for its first iteration.

    Args:
        config: As :meth:`mmeffmae.benchmarks.study.Study.config` makes it.
        work_dir: Where it may write.
    """
    config = training_config(config, seed=0, warmup=0, max_iters=0)
    config.train_dataloader.update(num_workers=0, persistent_workers=False)
    # A run of no iteration has an interval of one: each would be saved, timed.
    config.default_hooks.checkpoint.interval = -1
    runner = new_runner(config, work_dir)
    runner.train()  # Of no iteration: builds, initialises, calls the hooks.
    runner.model.train()
    return runner


def measure_arms(
    arms: dict[str, list[tuple[float, Config]]],
    work_dir: Path,
    rounds: int = 21,
    processes: int = 3,
) -> dict[str, dict[str, Any]]:
    """Time whole iterations, hooks included, loading of data excluded.

    All arms take their turns in one process, each on a batch of its own data.
    Several fresh processes do so one after the other: where memory happens to
    lie made an arm half as fast for the whole life of a process.

    Args:
        arms: By name, as :meth:`Study.parts` makes them. The step of an arm with
            two parts is the mean of theirs by their shares.
        work_dir: Where the runners may write.
        rounds: Timed iterations of every arm, rounded up to the same number
            in every process.
        processes: How many; at most one a round.

    Returns:
        Of every arm ``step_seconds`` (spread over the rounds), ``images`` and
        masked ``views`` of a step, ``saved_bytes`` for the backward pass (of the
        part that needs most), and the number of ``photographs`` to learn from.
    """
    processes = min(processes, rounds)
    configs = {
        f'{name}.{i}': config
        for name, parts in arms.items() for i, (_, config) in enumerate(parts)
    }
    results: dict[str, dict[str, Any]] = {}
    seconds: dict[str, list[float]] = {name: [] for name in configs}
    for number in range(processes):
        with ProcessPoolExecutor(
                1, get_context('spawn'), initializer=torch.set_num_threads,
                initargs=(torch.get_num_threads(),)) as pool:
            results, times = pool.submit(
                _measure_here, configs, work_dir / str(number),
                math.ceil(rounds / processes)).result()
        for name, of_arm in zip(configs, times):
            seconds[name] += of_arm
    return {
        name: _together(
            [share for share, _ in parts],
            [results[f'{name}.{i}'] for i in range(len(parts))],
            [seconds[f'{name}.{i}'] for i in range(len(parts))])
        for name, parts in arms.items()
    }


def _together(
    shares: list[float], results: list[dict[str, Any]], seconds: list[list[float]]
) -> dict[str, Any]:
    """One arm: round i of it is the mean of round i of each part."""
    if len(counts := {result['views'] for result in results}) > 1:
        raise ValueError(
            f'{counts} masked views a step of one arm: let the cooldown have as many '
            'as the trunk')
    rounds = [
        sum(share * time for share, time in zip(shares, times))
        for times in zip(*seconds)
    ]
    return dict(
        results[0],
        saved_bytes=max(result['saved_bytes'] for result in results),
        step_seconds=spread(rounds))


def _measure_here(
    configs: dict[str, Config],
    work_dir: Path,
    rounds: int,
    warmup: int = 3,
) -> tuple[dict[str, dict[str, Any]], list[list[float]]]:
    """Counts of every arm, and the seconds of its rounds, in this process."""
    MMLogger.get_current_instance().setLevel('ERROR')
    device = torch.device(get_device())
    runners, steps, results = [], [], {}
    for name, config in configs.items():
        runner = started_runner(config, work_dir / name)
        batch = next(iter(runner.train_loop.dataloader))
        results[name] = _counts(runner, batch)
        for _ in range(warmup):
            runner.train_loop.run_iter(batch)
        runners.append(runner)
        steps.append(lambda run=runner.train_loop.run_iter, data=batch: run(data))
    return results, interleave(steps, rounds, 1, clock(device))


def _counts(runner: Runner, batch: dict) -> dict[str, Any]:
    model = runner.model
    data = model.data_preprocessor(batch, True)
    images = data['inputs']

    def loss() -> torch.Tensor:
        with runner.optim_wrapper.optim_context(model):
            return model.parse_losses(model(**data, mode='loss'))[0]

    return dict(
        images=len(images),
        views=len(images) * model.draw_plan(images[:1]).num_views,
        saved_bytes=saved_bytes(model, loss),
        photographs=len(runner.train_dataloader.dataset))
