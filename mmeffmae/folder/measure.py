# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Real training steps and real loading, timed before a run is planned."""
import gc
import operator
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Optional

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from mmeffmae.evaluation.building import quiet
from mmeffmae.evaluation.rng import isolated_rng
from mmeffmae.evaluation.throughput import build_arm, clock, interleave, spread
from mmeffmae.models.layers.decorrelated import is_decorrelated

from .machine import Machine

_ROUNDS, _LOADED = 4, 24
#: Weights, gradients and two moments of AdamW, in bytes of fp32.
BYTES_A_PARAMETER = 16


@dataclass(frozen=True)
class Speed:
    """What a training step takes.

    Attributes:
        batch: Images of a step.
        step_seconds: Median time of a step, of those on images of full size.
        memory: Bytes: on a GPU the allocator's peak, else weights, gradients and
            moments, and what is kept for the backward pass.
        parameters: Number of parameters.
        load_seconds: Time in which one core loads an image, or in which the device
            cuts it out of those that it keeps.
        low: Share of the steps on smaller images, and the time of one.
        decorrelation: Bytes of raw weights and matrices R in a checkpoint.
    """
    batch: int
    step_seconds: float
    memory: int
    parameters: int
    load_seconds: float
    low: Optional[tuple[float, float]] = None
    decorrelation: int = 0

    @property
    def phases(self) -> list[tuple[float, float]]:
        """Share of the steps and seconds of one, at each size of the images."""
        if self.low is None:
            return [(1.0, self.step_seconds)]
        return [self.low, (1 - self.low[0], self.step_seconds)]

    @property
    def steps_rate(self) -> float:
        """Images a second of the steps alone."""
        return self.batch / sum(share * time for share, time in self.phases)

    @property
    def wanted_rate(self) -> float:
        """Images a second that no step would wait for."""
        return self.batch / min(time for _, time in self.phases)

    def scaled(self, factor: float) -> 'Speed':
        """With steps that take as many times as long."""
        low = self.low and (self.low[0], factor * self.low[1])
        return replace(self, step_seconds=factor * self.step_seconds, low=low)

    def rate(self, workers: int, machine: Machine) -> float:
        """Images a second with loading: at once, or in turns on too few cores."""
        apart = workers and machine.spare_cores > 0
        load = self.load_seconds
        if apart:
            load /= min(workers, machine.spare_cores)
        join = max if apart else operator.add
        return 1 / sum(
            share * join(time / self.batch, load) for share, time in self.phases)


def measure(config: Config, batch: int, machine: Machine) -> Speed | None:
    """Train a few steps on random images, and load a few of the real ones.

    Args:
        config: Of a pre-training.
        batch: Images of a step.
        machine: Where.

    Returns:
        None if the device runs out of memory.
    """
    device = torch.device(machine.device)
    try:
        with quiet():
            # The optimizer's moments are there from the second step on, so that
            # a peak of one step would lack them.
            arm = build_arm('plan', config, batch, device, warmup=2)
        seconds = time_rounds(arm.step, machine)
    except torch.cuda.OutOfMemoryError:
        return None
    finally:
        gc.collect()
        if machine.on_gpu:
            torch.cuda.empty_cache()
    parameters = arm.counts['parameters']['total']
    memory = arm.counts.get(
        'peak_bytes', parameters * BYTES_A_PARAMETER + arm.counts['saved_bytes'])
    decorrelation = 4 * sum(
        layer.weight.numel() + layer.decorrelation.numel()
        for layer in arm.model.modules() if is_decorrelated(layer))
    return Speed(batch, spread(seconds)['median'], memory, parameters,
                 load_seconds(config), decorrelation=decorrelation)


def time_rounds(work: Callable[[], Any], machine: Machine) -> list[float]:
    """Seconds of each of a few rounds, as a user's watch has them."""
    read = clock(torch.device(machine.device)) if machine.on_gpu else time.perf_counter
    return interleave([work], _ROUNDS, 1, read)[0]


def load_seconds(config: Config) -> float:
    """Seconds in which one core loads and augments an image of the config."""
    init_default_scope(config.get('default_scope', 'mmpretrain'))
    dataset = DATASETS.build(config.train_dataloader.dataset)
    count = min(_LOADED, len(dataset))
    with isolated_rng(0):
        start = time.perf_counter()
        for i in range(count):
            dataset[i * len(dataset) // count]
        return (time.perf_counter() - start) / count
