# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Scale the learning rate to the effective batch."""
from dataclasses import dataclass

from mmengine.config import Config

from .launch import ConfigError


@dataclass(frozen=True)
class LrScaling:
    """What :func:`scale_lr` did; its text is one line for the log."""

    images_per_rank: int
    world_size: int
    accumulative_counts: int
    base_batch_size: int
    base_lr: float

    @property
    def effective_batch(self) -> int:
        """Number of images for each optimizer update."""
        return (self.images_per_rank * self.world_size *
                self.accumulative_counts)

    @property
    def lr(self) -> float:
        """Learning rate after scaling."""
        return self.base_lr * self.effective_batch / self.base_batch_size

    def iterations_note(self, train_cfg: dict) -> str | None:
        """A warning where a schedule in iterations sees fewer images, or None."""
        if train_cfg.get('type') != 'IterBasedTrainLoop':
            return None
        factor = self.base_batch_size / self.effective_batch
        if factor <= 1:
            return None
        return (f'train_cfg.max_iters {train_cfg["max_iters"]} is meant for updates '
                f'of {self.base_batch_size} images; with {self.effective_batch} this '
                f'run sees 1/{factor:g} of the images. For all of them multiply '
                'max_iters, val_interval and the steps of param_scheduler by that, '
                'and optim_wrapper.accumulative_counts as well')

    def __str__(self) -> str:
        return (f'learning rate {self.base_lr:g} for {self.base_batch_size} '
                f'images an update becomes {self.lr:g} for '
                f'{self.effective_batch} ({self.images_per_rank} images a '
                f'rank x {self.world_size} ranks x '
                f'{self.accumulative_counts} accumulated)')


def scale_lr(cfg: Config, world_size: int) -> LrScaling | None:
    """Scale ``optim_wrapper.optimizer.lr`` in proportion to the batch.

    Linear scaling as in https://arxiv.org/abs/1706.02677, for configs with
    ``auto_scale_lr = dict(base_batch_size=...)``. mmengine's own scaling,
    which ignores accumulation, is switched off. The config then holds the
    scaled rate and the batch it is meant for, so that a run from the dumped
    config is not scaled twice.

    Args:
        cfg: A training config; changed in place.
        world_size: Number of processes.

    Returns:
        What was done, or None if the config asks for no scaling.

    Raises:
        ConfigError: The config has several optimizers or no learning rate.
    """
    base = cfg.get('auto_scale_lr')
    if not base or 'base_batch_size' not in base:
        return None
    optimizer = cfg.optim_wrapper.get('optimizer', {})
    if optimizer.get('lr') is None:
        raise ConfigError(
            'auto_scale_lr needs optim_wrapper.optimizer.lr, but the config '
            f'has optim_wrapper={dict(cfg.optim_wrapper)}: name one optimizer '
            'with its lr, or pass --no-scale-lr')
    scaling = LrScaling(
        images_per_rank=_images_per_rank(cfg.train_dataloader),
        world_size=world_size,
        accumulative_counts=cfg.optim_wrapper.get('accumulative_counts', 1),
        base_batch_size=base.base_batch_size,
        base_lr=optimizer.lr)
    optimizer.lr = scaling.lr
    cfg.auto_scale_lr = dict(
        enable=False, base_batch_size=scaling.effective_batch)
    return scaling


def _images_per_rank(dataloader: dict) -> int:
    if 'batch_size' in dataloader:
        return dataloader['batch_size']
    return dataloader['batch_sampler']['batch_size']
