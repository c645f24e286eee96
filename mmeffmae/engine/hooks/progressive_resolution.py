# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor
from torch.nn import functional as F

from mmeffmae.compat import unwrap
from mmeffmae.registry import HOOKS


class Phase(NamedTuple):
    """Images of one size.

    Attributes:
        until: Share of the run's iterations at which it ends.
        size: Side of the images, in pixels.
    """

    until: float
    size: int


@HOOKS.register_module()
class ProgressiveResolutionHook(Hook):
    """Train on small images first, on those of the data in the end.

    Batches are reduced on the model's device, so the data pipeline and its
    workers stay as they are; shapes change at the phases' borders alone. The
    patch size stays, so a patch covers more of a small image, and there are
    fewer of them: at half the side a quarter of the tokens. Position tables
    are resized to the smaller grid, as for other image sizes: a patch has
    about the position of what it shows. The size is a function of the
    iteration, so a resumed run equals the unbroken one. ::

        custom_hooks = [dict(type='mmeffmae.ProgressiveResolutionHook',
                             phases=[dict(until=0.6, size=128)])]

    Args:
        phases: In their order; after the last one come the images as they
            are loaded.

    Raises:
        ValueError: The phases are not in order, or the model cannot take
            their sizes; before the first iteration. Images are smaller than
            a phase's, or not square.
    """

    priority = 'NORMAL'

    def __init__(self, phases: Sequence[dict[str, Any]]) -> None:
        self.phases = [Phase(**phase) for phase in phases]
        ends = [phase.until for phase in self.phases]
        if not ends or sorted(set(ends)) != ends or not 0 < ends[0] <= ends[-1] < 1:
            raise ValueError(
                f'phases that end at {ends} of the run (ProgressiveResolutionHook): '
                'let each end later than the one before, between 0 and 1')
        self._size: int | None = None

    def size_at(self, iteration: int, max_iters: int) -> int | None:
        """Side of the images in an iteration; None for those of the data."""
        for phase in self.phases:
            if iteration < phase.until * max_iters:
                return phase.size
        return None

    def before_train(self, runner: Runner) -> None:
        """See that model and masking take every size."""
        model = unwrap(runner.model)
        if getattr(model.masking, 'from_samples', False):
            raise ValueError(
                'the data pipeline draws the masks, for one grid alone '
                '(ProgressiveResolutionHook): set model.masking.from_samples=False')
        device = next(model.parameters()).device
        for phase in self.phases:
            images = torch.empty(1, 3, phase.size, phase.size, device=device)
            try:
                model.backbone.check_plan(model.draw_plan(images))
            except ValueError as error:
                raise ValueError(
                    f'phase of {phase.size} px (ProgressiveResolutionHook): '
                    f'{error}') from error

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Reduce the batch, in place."""
        assert data_batch is not None
        size = self.size_at(runner.iter, runner.max_iters)
        if size != self._size:
            self._size = size
            runner.logger.info(
                f'images of {f"{size} px" if size else "full size"} from iteration '
                f'{runner.iter + 1}')
        if size is not None:
            device = next(runner.model.parameters()).device
            images = data_batch['inputs'].to(device, non_blocking=True)
            data_batch['inputs'] = reduce_images(images, size)


def reduce_images(images: Tensor, size: int) -> Tensor:
    """Smaller images, without aliasing.

    Args:
        images: ``(B, C, H, W)``, uint8, or floats of any range as
            :class:`mmeffmae.datasets.transforms.LoadBands` gives them.
        size: Side in pixels.

    Returns:
        Tensor: ``(B, C, size, size)``, of the images' type.

    Raises:
        ValueError: The images are smaller, or not square.
    """
    if images.size(-1) != images.size(-2):
        raise ValueError(
            f'images of {tuple(images.shape[-2:])} px (ProgressiveResolutionHook): '
            'phases are squares, so load square images')
    if size > min(images.shape[-2:]):
        raise ValueError(
            f'images of {tuple(images.shape[-2:])} px cannot be reduced to {size} '
            '(ProgressiveResolutionHook): lower the size of the phase')
    reduced = F.interpolate(
        images.float(), (size, size), mode='bicubic', antialias=True)
    if images.is_floating_point():
        return reduced.to(images.dtype)
    return reduced.round_().clamp_(0, 255).to(images.dtype)
