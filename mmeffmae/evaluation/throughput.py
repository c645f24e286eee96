# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Training steps of several arms, timed in turns.

The timed step is the one of training: draw the masks, forward, loss,
backward, optimizer, and the updates of a momentum teacher and of
decorrelation where a config has them, compiled if it says so. Images are
random and already on the device; no data is loaded, no other hook runs,
nothing is accumulated. On the CPU the clock is the process time of one thread,
which a busy machine stretches little; on a GPU it is the wall clock,
synchronised.
"""
import copy
import gc
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from torch import Tensor, nn

from mmeffmae.engine.launch import use_amp
from mmeffmae.engine.lr_scaling import scale_lr
from mmeffmae.registry import HOOKS

from .building import build_model
from .cost import count_macs, count_parameters, saved_bytes
from .peers import simmim_masks


@dataclass
class Arm:
    """A model with its optimizer and a batch of images.

    Attributes:
        images: ``(B, C, H, W)``.
        data_samples: What the loss reads beside the images, if anything.
        counts: What was counted before anything was timed.
    """

    name: str
    model: nn.Module
    optim_wrapper: OptimWrapper
    images: Tensor
    data_samples: Optional[list]
    counts: dict[str, Any]

    def loss(self) -> Tensor:
        """The sum of the objective's terms, under the arm's precision."""
        with self.optim_wrapper.optim_context(self.model):
            losses = self.model(self.images, self.data_samples, mode='loss')
        return self.model.parse_losses(losses)[0]

    def step(self) -> Tensor:
        """One training step; returns the loss before it."""
        with self.optim_wrapper.optim_context(self.model):
            losses = self.model(self.images, self.data_samples, mode='loss')
            loss = self.model.parse_losses(losses)[0]
        self.optim_wrapper.update_params(loss)
        if hasattr(self.model, 'update_teacher'):
            self.model.update_teacher(0.)
        return loss.detach()


def build_arm(
    name: str,
    config: Config,
    batch_size: int,
    device: torch.device,
    amp: bool = False,
    warmup: int = 2,
) -> Arm:
    """Build an arm, count what its step costs, and warm it up.

    Args:
        name: What tables call it.
        config: Of a pre-training; its optimizer is used with the learning
            rate that belongs to ``batch_size``, without accumulation.
        batch_size: Images B of a step.
        device: Where to train.
        amp: bfloat16 also where the config would not use it.
        warmup: Steps before anything is timed, at least 1.
    """
    gc.collect()
    on_gpu = device.type == 'cuda'
    if on_gpu:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    model = build_model(config, seed=0, device=device)
    model.train()
    size = _image_size(model)
    channels = getattr(model.backbone, 'in_channels', 3)
    images = torch.randn(batch_size, channels, *size, device=device)
    is_simmim = type(model).__name__ == 'SimMIM'
    samples = simmim_masks(batch_size, size[0], device) if is_simmim else None
    arm = Arm(name, model, _optimizer(config, model, batch_size, amp), images,
              samples, {})
    arm.counts = dict(
        image_size=list(size),
        views=model.draw_plan(images[:1]).num_views if _draws(model) else 1,
        parameters=count_parameters(model),
        macs=count_macs(model, images[:1], samples and samples[:1]))
    # After the count of an image: the work on weights is one of a step.
    _attach_hooks(config, model, arm.optim_wrapper)
    arm.counts['saved_bytes'] = saved_bytes(model, arm.loss)
    for _ in range(warmup):
        arm.step()
    if on_gpu:
        torch.cuda.synchronize(device)
        peak = torch.cuda.max_memory_allocated(device)
        arm.counts['peak_bytes'] = peak - before
    return arm


def _draws(model: nn.Module) -> bool:
    return hasattr(model, 'draw_plan')


def _image_size(model: nn.Module) -> tuple[int, int]:
    """Height and width that the encoder is made for."""
    encoder = model.backbone
    if hasattr(encoder, 'img_size'):
        return tuple(encoder.img_size)
    return tuple(encoder.patch_embed.init_input_size)


def _optimizer(
    config: Config, model: nn.Module, batch_size: int, amp: bool
) -> OptimWrapper:
    config = copy.deepcopy(config)
    config.optim_wrapper.accumulative_counts = 1
    config.train_dataloader = dict(batch_size=batch_size)
    scale_lr(config, world_size=1)
    if amp:
        use_amp(config)
    return build_optim_wrapper(model, config.optim_wrapper)


def _attach_hooks(
    config: Config, model: nn.Module, optim_wrapper: OptimWrapper
) -> None:
    """Let the hooks that change the step itself do so, and no others."""
    for settings in config.get('custom_hooks') or []:
        if settings['type'].split('.')[-1] in ('DecorrelationHook', 'CompileHook'):
            HOOKS.build(settings).attach(model, optim_wrapper)


def clock(device: torch.device) -> Callable[[], float]:
    """Seconds: of CPU time on a CPU, of finished work on a GPU."""
    if device.type != 'cuda':
        return time.process_time

    def read() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return read


def interleave(
    steps: Sequence[Callable[[], Any]],
    rounds: int,
    repeats: int,
    read: Callable[[], float],
    after: Callable[[int, Any], None] = lambda arm, value: None,
) -> list[list[float]]:
    """Time steps in turns, A B A B, so that a busy machine hits all alike.

    Args:
        steps: One function an arm.
        rounds: Turns of every arm.
        repeats: Steps of a turn.
        read: The clock, in seconds.
        after: Called with the arm's number and what its last step returned,
            when the clock is off.

    Returns:
        Seconds a step, one value a round, of every arm.
    """
    seconds: list[list[float]] = [[] for _ in steps]
    for _ in range(rounds):
        for arm, step in enumerate(steps):
            start = read()
            for _ in range(repeats):
                value = step()
            seconds[arm].append((read() - start) / repeats)
            after(arm, value)
    return seconds


def time_arms(
    arms: Sequence[Arm], rounds: int, repeats: int, device: torch.device
) -> list[list[float]]:
    """Seconds a step of every arm, one value a round.

    Raises:
        FloatingPointError: A loss is not finite, so the arm does not train.
    """

    def check(arm: int, loss: Tensor) -> None:
        if not math.isfinite(loss.item()):
            raise FloatingPointError(
                f'the loss of {arms[arm].name} is {loss.item()} after at most '
                f'{rounds * repeats} steps on random images: this arm does not '
                'train, and its speed means nothing')
        arms[arm].counts['loss'] = loss.item()

    return interleave(
        [arm.step for arm in arms], rounds, repeats, clock(device), check)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, quartiles and extremes; all are equal for a single value."""
    if len(values) == 1:
        quartiles = [values[0]] * 3
    else:
        quartiles = statistics.quantiles(values, n=4, method='inclusive')
    low, median, high = quartiles
    return dict(median=median, q1=low, q3=high, min=min(values), max=max(values))


def summarise(
    arms: Sequence[Arm], seconds: Sequence[Sequence[float]], peer: int
) -> list[dict]:
    """Everything measured of every arm, also as ratios to the peer.

    A ratio of times is the median over rounds of the ratio within a round.
    """
    results = []
    for arm, times in zip(arms, seconds):
        images = len(arm.images)
        views = images * arm.counts['views']
        results.append(
            dict(
                name=arm.name,
                **arm.counts,
                step_seconds=dict(spread(times), rounds=list(times)),
                images_per_second=spread([images / t for t in times]),
                views_per_second=spread([views / t for t in times])))
    for result, times in zip(results, seconds):
        result['ratio_to_peer'] = _ratios(
            result, results[peer], times, seconds[peer])
    return results


def _ratios(
    result: dict, peer: dict, times: Sequence[float], peer_times: Sequence[float]
) -> dict:
    in_turn = [a / b for a, b in zip(times, peer_times)]
    views = result['views'] / peer['views']
    ratios: dict[str, Any] = dict(
        step_seconds=spread(in_turn),
        images_per_second=spread([1 / r for r in in_turn]),
        views_per_second=spread([views / r for r in in_turn]))
    for key in ('saved_bytes', 'peak_bytes'):
        if key in result:
            ratios[key] = result[key] / peer[key]
    for key in ('parameters', 'macs'):
        ratios[key] = {
            part: count / peer[key][part]
            for part, count in result[key].items() if peer[key].get(part)
        }
    return ratios
