# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Predicted time and memory on many GPUs, from counted and measured parts.

A prediction, never a result: it knows no load imbalance, no allocator and no
waiting for files. It says what to expect, and what to look into when a run is
far from it.
"""
import copy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from mmengine.config import Config
from torch import nn

from mmeffmae.evaluation.building import build_model
from mmeffmae.evaluation.cost import count_macs, saved_bytes
from mmeffmae.registry import MODELS

#: Weight, gradient and two moments of AdamW, in float32.
_STATE_BYTES = 16
#: See :mod:`mmeffmae.benchmarks.cost_map`.
_OPTIMIZER_BYTES = 28


@dataclass(frozen=True)
class Parts:
    """What one image and one step cost.

    Attributes:
        macs: Multiply-adds forward, of an image.
        recomputed_macs: Those that the backward pass does again.
        weights: Trained parameters.
        largest_layer: Parameters of the largest block, which a sharded run
            gathers as a whole.
        image_bytes: Kept for the backward pass under bfloat16, of an image.
    """

    macs: float
    recomputed_macs: float
    weights: int
    largest_layer: int
    image_bytes: float


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

    Args:
        config: Of a pre-training with a ``MaskedViT`` and a ``MaskedDecoder``.
    """
    with torch.device('meta'):
        model = MODELS.build(config.model).train()
        height, width = model.backbone.img_size
        macs = count_macs(model, torch.empty(1, 3, height, width))
    again = [part for part, module in (('encoder', model.backbone),
                                       ('decoder', model.neck)) if module.with_cp]
    return Parts(
        macs=macs['total'],
        recomputed_macs=sum(macs[part] for part in again),
        weights=sum(p.numel() for p in model.parameters() if p.requires_grad),
        largest_layer=sum(p.numel() for p in model.backbone.layers[0].parameters()),
        image_bytes=_image_bytes(config, model.backbone.arch_settings))


def _image_bytes(config: Config, arch: dict) -> float:
    """Bytes of one image more in a batch.

    From encoders of two and of four layers, since each pair keeps as much as
    the next and whole ones would fill the memory.
    """
    two, four = (_shallow_image_bytes(config, dict(arch, num_layers=n)) for n in (2, 4))
    return two + (arch['num_layers'] - 2) / 2 * (four - two)


def _shallow_image_bytes(config: Config, arch: dict) -> float:
    config = copy.deepcopy(config)
    config.model.backbone.update(arch=arch, share_attn=None)
    model = build_model(config).train()
    sizes = []
    for batch in (1, 2):
        images = torch.randn(batch, 3, *model.backbone.img_size)
        sizes.append(saved_bytes(model, partial(_loss, model, images)))
    return sizes[1] - sizes[0] + _checkpoint_bytes(model)


def _loss(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.autocast('cpu', torch.bfloat16):
        return model.parse_losses(model(images, mode='loss'))[0]


def _checkpoint_bytes(model: nn.Module) -> float:
    """Inputs of recomputed layers, which are kept by other means; float32."""
    encoder, decoder = model.backbone, model.neck
    plan = model.draw_plan(torch.empty(1, 3, *encoder.img_size))
    seen = plan.ids_keep.size(-1) + encoder.num_extra_tokens
    numbers = 0
    if encoder.with_cp:
        numbers += encoder.num_layers * seen * encoder.embed_dims
    if decoder.with_cp:
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
    micro-batch and scatters its gradients once.

    Args:
        parts: Of the model.
        machine: Of the GPUs.
        gpus: Their number; beyond a node the network may be slowest.
        global_batch: Images of an optimizer step.
        micro_batch: Most images that a GPU takes at once.
        sharded: Whether weights and moments are spread over the GPUs.

    Raises:
        ValueError: The GPUs do not divide the batch.
    """
    if global_batch % gpus:
        raise ValueError(f'{gpus} GPUs do not divide a batch of {global_batch} '
                         'images: choose a multiple')
    images = global_batch // gpus
    micro_batch = min(micro_batch, images)
    rounds = -(-images // micro_batch)
    forward = 2 * parts.macs * images / machine.flops
    backward = 2 * forward + 2 * parts.recomputed_macs * images / machine.flops
    held = parts.weights / gpus if sharded else parts.weights
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
    step = forward + backward + waited + _OPTIMIZER_BYTES * held / machine.bandwidth
    state = _STATE_BYTES * held
    if sharded:  # two layers are gathered ahead
        state += 2 * 4 * parts.largest_layer
    elif gpus > 1 and rounds > 1:  # accumulated beside DDP's buckets
        state += 4 * held
    return dict(
        gpus=gpus,
        strategy='FSDP' if sharded else 'DDP',
        micro_batch=micro_batch,
        accumulation=rounds,
        step_seconds=step,
        waited_seconds=waited,
        images_per_second=global_batch / step,
        state_bytes=state,
        memory_bytes=state + micro_batch * parts.image_bytes,
        cores_per_gpu=global_batch / step / gpus / machine.core_images)
