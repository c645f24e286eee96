# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Predicted time and memory on many GPUs, from counted and measured parts.

A prediction, never a result: it knows no load imbalance, no allocator and no
waiting for files. It says what to expect, and what to look into when a run is
far from it.
"""
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import nn

from mmeffmae.engine.optimizers.newton_schulz import orthogonalisation_macs
from mmeffmae.engine.sharding import wrap_attention_and_ffn
from mmeffmae.evaluation.building import build_model, quiet
from mmeffmae.evaluation.cost import count_macs, saved_bytes
from mmeffmae.models.backbones.um_pyramid import UMPyramid
from mmeffmae.registry import MODELS

#: Weight, gradient and two moments of AdamW, in float32.
_STATE_BYTES = 16
#: See :mod:`mmeffmae.benchmarks.cost_map`.
_OPTIMIZER_BYTES = 28
#: Of an orthogonalised matrix, in bfloat16.
_UPDATE_BYTES = 2


class Phase(NamedTuple):
    """Images of one size, for a share of the run.

    Attributes:
        share: Of the run's iterations.
        macs: Multiply-adds forward of what learns, of an image.
        recomputed_macs: Those that the backward pass does again.
        teacher_macs: Of a teacher, which has no backward pass.
    """

    share: float
    macs: float
    recomputed_macs: float = 0.
    teacher_macs: float = 0.


@dataclass(frozen=True)
class Parts:
    """What one image and one step cost.

    Attributes:
        phases: Work of an image, in the order of its sizes.
        weights: Trained parameters.
        largest_unit: Parameters of the largest attention or FFN, which a
            sharded run gathers as a whole.
        image_bytes: Kept for the backward pass under bfloat16, of an image of
            the last size.
        fixed_bytes: Kept whatever the batch, such as weights in bfloat16.
        teacher_weights: Parameters of a teacher.
        muon_weights: Trained parameters that have one moment instead of two.
        step_macs: Multiply-adds of Muon, of a step, which the GPUs of a node share.
    """

    phases: tuple[Phase, ...]
    weights: int
    largest_unit: int
    image_bytes: float
    fixed_bytes: float = 0.
    teacher_weights: int = 0
    muon_weights: int = 0
    step_macs: float = 0.


@dataclass(frozen=True)
class Machine:
    """Rates of a GPU and its links.

    Attributes:
        flops: Floating-point operations a second that training reaches in
            bfloat16, such as ``throughput.py`` finds; not those of a data
            sheet.
        bandwidth: Bytes a second of its memory.
        node_link: Bytes a second that a GPU exchanges with those of its node.
        net_link: Bytes a second of a GPU's network card; those of a node
            work together.
        node: GPUs of a node.
        core_images: Images a second that a CPU core loads, as
            ``data_speed.py`` finds.
    """

    flops: float
    bandwidth: float
    node_link: float
    net_link: float
    node: int = 8
    core_images: float = 600.


def count_parts(config: Config) -> Parts:
    """Count on the CPU, without training.

    Matrices of decorrelation are left out.

    Args:
        config: Of a pre-training.

    Raises:
        ValueError: A Swin or PVT recomputes activations.
    """
    with torch.device('meta'):
        model = MODELS.build(config.model).train()
        phases = _phases(model, config)
        matrices = _muon_matrices(model, config)
    teacher = getattr(model, 'teacher', None)
    image_bytes, fixed_bytes = _kept_bytes(config)
    return Parts(
        phases=phases,
        weights=sum(p.numel() for p in model.parameters() if p.requires_grad),
        largest_unit=max(
            (_size(unit) for unit in model.modules()
             if wrap_attention_and_ffn(unit, False, 0)), default=0),
        image_bytes=image_bytes,
        fixed_bytes=fixed_bytes,
        teacher_weights=_size(teacher) if teacher is not None else 0,
        muon_weights=sum(m * n for m, n in matrices),
        step_macs=sum(map(orthogonalisation_macs, matrices)))


def _size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _phases(model: nn.Module, config: Config) -> tuple[Phase, ...]:
    again = [part for part, module in (('encoder', model.backbone),
                                       ('decoder', model.neck))
             if getattr(module, 'with_cp', False)]
    phases = []
    for share, size in _sizes(config, model.backbone.img_size):
        macs = count_macs(model, torch.empty(1, 3, *size))
        teacher = macs.get('teacher', 0)
        phases.append(Phase(
            share, macs['total'] - teacher, sum(macs[part] for part in again), teacher))
    return tuple(phases)


def _sizes(
    config: Config, last: tuple[int, int]
) -> list[tuple[float, tuple[int, int]]]:
    """Shares of the run, and height and width of its images there."""
    phases = [
        phase for hook in config.get('custom_hooks') or []
        if hook['type'].split('.')[-1] == 'ProgressiveResolutionHook'
        for phase in hook['phases']]
    sizes = [(phase['size'], phase['size']) for phase in phases]
    ends = [0., *(phase['until'] for phase in phases), 1.]
    return [(end - begin, size)
            for begin, end, size in zip(ends, ends[1:], [*sizes, last])]


def _muon_matrices(model: nn.Module, config: Config) -> list[torch.Size]:
    """Shapes of what Muon trains."""
    with quiet():
        groups = build_optim_wrapper(model, config.optim_wrapper).param_groups
    return [p.shape for group in groups if group.get('muon')
            for p in group['params']]


def _kept_bytes(config: Config) -> tuple[float, float]:
    """Bytes of one image more in a batch, and those that do not grow with it."""
    model = build_model(config).train()
    one, two = (
        saved_bytes(model, partial(
            _loss, model, torch.randn(batch, 3, *model.backbone.img_size)))
        for batch in (1, 2))
    return two - one + _checkpoint_bytes(model), 2 * one - two


def _loss(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.autocast('cpu', torch.bfloat16):
        return model.parse_losses(model(images, mode='loss'))[0]


def _checkpoint_bytes(model: nn.Module) -> float:
    """Inputs of recomputed layers, which are kept by other means; float32."""
    encoder, decoder = model.backbone, model.neck
    of_encoder, of_decoder = (
        getattr(part, 'with_cp', False) for part in (encoder, decoder))
    if not (of_encoder or of_decoder):
        return 0.
    if isinstance(encoder, UMPyramid):
        raise ValueError(
            f'{type(encoder).__name__} with with_cp=True is not predicted '
            '(predict_scale): only a plain ViT\'s recomputed layers are counted')
    plan = model.draw_plan(torch.empty(1, 3, *encoder.img_size))
    seen = plan.ids_keep.size(-1) + encoder.num_extra_tokens
    numbers = 0
    if of_encoder:
        numbers += encoder.num_layers * seen * encoder.embed_dims
    if of_decoder:
        blocks = decoder.decoder_blocks
        tokens = seen + plan.ids_predict.size(-1)
        numbers += len(blocks) * tokens * blocks[0].embed_dims
    return 4. * plan.num_views * numbers


def predict(
    parts: Parts,
    machine: Machine,
    gpus: int,
    global_batch: int,
    micro_batch: int,
    sharded: bool = False,
) -> dict[str, Any]:
    """Time of a step and memory of a GPU.

    Gradients are exchanged while the backward pass goes on, once a step. A
    sharded run (FSDP) gathers the weights, in float32, twice for every
    micro-batch and scatters its gradients once. Where the size of images changes,
    times are means over the run, and CPU cores those of the fastest phase.

    Args:
        parts: Of the model.
        machine: Of the GPUs.
        gpus: Their number; beyond a node the network may be slowest.
        global_batch: Images of an optimizer step.
        micro_batch: Most images that a GPU takes at once.
        sharded: Whether weights and moments are spread over the GPUs.

    Raises:
        ValueError: The GPUs do not divide the batch, or a sharded run has Muon.
    """
    if global_batch % gpus:
        raise ValueError(f'{gpus} GPUs do not divide a batch of {global_batch} '
                         'images: choose a multiple')
    if sharded and parts.muon_weights:
        raise ValueError('Muon needs whole matrices, and FSDP leaves each GPU a piece '
                         'of them: use AdamW, or no strategy')
    images = global_batch // gpus
    micro_batch = min(micro_batch, images)
    rounds = -(-images // micro_batch)
    held = parts.weights / gpus if sharded else parts.weights
    times = [_times(phase, parts, machine, gpus, images, rounds, held, sharded)
             for phase in parts.phases]
    step, waited = (
        sum(phase.share * of[i] for phase, of in zip(parts.phases, times))
        for i in range(2))
    state = _STATE_BYTES * held - 4 * parts.muon_weights + 4 * parts.teacher_weights
    if sharded:  # two units are gathered ahead
        state += 2 * 4 * parts.largest_unit
    elif gpus > 1 and rounds > 1:  # accumulated beside DDP's buckets
        state += 4 * held
    return dict(
        gpus=gpus,
        strategy='' if gpus == 1 else 'FSDP' if sharded else 'DDP',
        micro_batch=micro_batch,
        accumulation=rounds,
        step_seconds=step,
        waited_seconds=waited,
        images_per_second=global_batch / step,
        state_bytes=state,
        memory_bytes=state + parts.fixed_bytes + micro_batch * parts.image_bytes,
        cores_per_gpu=images / min(of[0] for of in times) / machine.core_images)


def _times(
    phase: Phase, parts: Parts, machine: Machine, gpus: int, images: int, rounds: int,
    held: float, sharded: bool,
) -> tuple[float, float]:
    """Seconds of a step, and those of it that wait for the links."""
    learning = 2 * phase.macs * images / machine.flops
    forward = learning + 2 * phase.teacher_macs * images / machine.flops
    backward = 2 * learning + 2 * phase.recomputed_macs * images / machine.flops
    link = machine.node_link
    if gpus > machine.node:
        link = min(link, machine.node * machine.net_link)
    others = (gpus - 1) / gpus
    if sharded:
        exchanged = others * parts.weights * rounds * 12
        hidden = forward + backward
    else:
        exchanged = 2 * others * 4 * parts.weights
        hidden = backward / rounds  # of the last micro-batch alone
    waited = max(0., exchanged / link - hidden)
    # The GPUs of a node share the matrices of Muon, and exchange them afterwards.
    sharing = min(gpus, machine.node)
    shared = (sharing - 1) / sharing * _UPDATE_BYTES * parts.muon_weights
    optimizer = (2 * parts.step_macs / sharing / machine.flops
                 + shared / machine.node_link
                 + _OPTIMIZER_BYTES * held / machine.bandwidth)
    return forward + backward + waited + optimizer, waited
