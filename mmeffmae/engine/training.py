# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""From a config to a runner that is ready to train."""
from collections.abc import Sequence

from mmengine.config import Config
from mmengine.runner import Runner

from mmeffmae.checkpoint import register_safe_loader

from .launch import (
    build_runner,
    init_processes,
    leave_amp_to_gpus,
    world_size,
)
from .lr_scaling import scale_lr


def training_runner(
    cfg: Config, scale: bool = True, notes: Sequence[str] = ()
) -> Runner:
    """Scale the learning rate, start the processes' group, build the runner.

    Automatic mixed precision of mmengine is left out where there is no GPU.

    Args:
        cfg: A training config with ``launcher``; changed in place.
        scale: Whether the rate follows the batch, see
            :func:`mmeffmae.engine.lr_scaling.scale_lr`.
        notes: Warnings for its log, as ``set_resume`` gives them.

    Raises:
        ConfigError: The rate cannot be scaled, or the launcher is not there.
    """
    scaling = None
    if scale:
        scaling = scale_lr(cfg, world_size(cfg.launcher))
        if scaling and (note := scaling.iterations_note(cfg.train_cfg)):
            notes = [*notes, note]
    else:
        cfg.auto_scale_lr = None
    notes = [*notes, *leave_amp_to_gpus(cfg)]
    init_processes(cfg)
    register_safe_loader()
    runner = build_runner(cfg)
    runner.logger.info(f'Scaled: {scaling}' if scaling else
                       'The learning rate is not scaled')
    for note in notes:
        runner.logger.warning(note)
    return runner
