# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Whole images through one encoder that drops tokens, timed at several ratios."""
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn

from mmeffmae.checkpoint.export import build_encoder

from .cost import count_forward_macs
from .rng import isolated_rng
from .throughput import clock, interleave, spread


@dataclass
class RatioArm:
    """An encoder at one drop ratio, with a batch of images.

    All arms of a run share the encoder.

    Attributes:
        images: ``(B, 3, H, W)``.
        amp: Whether to compute in bfloat16.
    """

    encoder: nn.Module
    ratio: float
    images: Tensor
    amp: bool

    @torch.inference_mode()
    def step(self) -> Tensor:
        """Pooled features of the images, ``(B, C)``."""
        self.encoder.drop_ratio = self.ratio
        with torch.autocast(self.images.device.type, torch.bfloat16, self.amp):
            return self.encoder(self.images)[-1]

    def counts(self) -> dict[str, Any]:
        """Patch tokens that enter and stay after each drop, and GMACs."""
        self.step()
        rows, cols = self.encoder.patch_grid(tuple(self.images.shape[-2:]))
        return dict(
            drop_ratio=self.ratio,
            drop_indices=list(self.encoder.token_drop.indices),
            metric=self.encoder.token_drop.metric,
            tokens=self.encoder.token_drop.counts(rows * cols),
            macs=count_forward_macs(self.encoder, self.images[:1]))


def build_ratio_arms(
    config: Config,
    ratios: Sequence[float],
    batch_size: int,
    device: torch.device,
    amp: bool = False,
) -> list[RatioArm]:
    """One encoder, random weights, averaged tokens; an arm for each ratio.

    Args:
        config: Its ``model.backbone`` is a ``MaskedViT``.
        ratios: Of each drop, where ``drop_indices`` say.
        batch_size: Images B.
        device: Where to compute.
        amp: bfloat16.

    Raises:
        ValueError: The encoder drops no tokens.
    """
    backbone = dict(
        config.model.backbone, out_type='avg_featmap', final_norm=False)
    settings = dict(config.to_dict(), model=dict(backbone=backbone))
    with isolated_rng(0):
        encoder = build_encoder(settings, trusted=True).to(device).eval()
    if not hasattr(encoder, 'drop_ratio'):
        raise ValueError(
            f'{type(encoder).__name__} drops no tokens: use a config whose '
            'model.backbone is a MaskedViT')
    images = torch.randn(batch_size, 3, *encoder.img_size, device=device)
    return [RatioArm(encoder, ratio, images, amp) for ratio in ratios]


def time_ratios(
    arms: Sequence[RatioArm], rounds: int, repeats: int, device: torch.device
) -> list[dict[str, Any]]:
    """Counts and times of every arm, and its speed as a ratio to the first's.

    A ratio is the median over rounds of the ratio within a round.
    """
    results = [arm.counts() for arm in arms]
    seconds = interleave([arm.step for arm in arms], rounds, repeats, clock(device))
    for result, arm, times in zip(results, arms, seconds):
        images = len(arm.images)
        result.update(
            step_seconds=dict(spread(times), rounds=list(times)),
            images_per_second=spread([images / t for t in times]),
            speed_ratio=spread([a / b for a, b in zip(seconds[0], times)]))
    return results
