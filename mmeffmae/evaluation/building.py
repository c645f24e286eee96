# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Models and datasets of a config, outside a runner."""
import copy
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from os import PathLike
from typing import Any, Optional, Union

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS, MODELS, init_default_scope
from torch import nn
from torch.utils.data import Dataset

from mmeffmae.checkpoint.loading import load_checkpoint_safely, register_safe_loader
from mmeffmae.checkpoint.metadata import checkpoint_grid
from mmeffmae.checkpoint.report import LoadReport, load_with_report
from mmeffmae.datasets.device_images import of_files

from .finetune import FinetuneSchedule
from .probes import WHOLE_PROBES, ProbeTask
from .rng import isolated_rng


def build_model(config: Config,
                seed: int = 0,
                device: Union[str, torch.device] = 'cpu') -> nn.Module:
    """Build and initialise the model of a config as the runner does.

    Args:
        config: A whole config; becomes the default scope.
        seed: Seed of the initial weights.
        device: Where to put the model.

    Returns:
        The model in eval mode.
    """
    init_default_scope(config.get('default_scope', 'mmpretrain'))
    settings = copy.deepcopy(config.model)
    if config.get('data_preprocessor'):
        settings.setdefault('data_preprocessor', config.data_preprocessor)
    register_safe_loader()
    with isolated_rng(seed), quiet():
        model = MODELS.build(settings)
        model.init_weights()
    return model.to(device).eval()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the stack from printing each parameter's initialisation and decay."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(max(level, logging.WARNING))
    try:
        yield
    finally:
        logger.setLevel(level)


def load_weights(module: nn.Module,
                 checkpoint: Union[str, PathLike],
                 prefix: str = '') -> tuple[dict[str, Any], LoadReport]:
    """Load all weights of a module from a checkpoint, or none.

    Args:
        module: An encoder or a whole model.
        checkpoint: A training checkpoint or an exported backbone.
        prefix: The module's place in the file, such as ``'backbone.'``.

    Returns:
        The ``meta`` of the file, and the load report.

    Raises:
        CheckpointError: The file cannot be used or does not fit.
    """
    content = load_checkpoint_safely(checkpoint)
    report = load_with_report(
        module,
        content.get('state_dict', content),
        prefix=prefix,
        source=str(checkpoint),
        source_grid=checkpoint_grid(content))
    return content.get('meta') or {}, report


def probe_datasets(config: Config,
                   split: str = 'monitor') -> tuple[Dataset, Dataset]:
    """Bank and query of a config, see :func:`probe_settings`."""
    bank, query = probe_settings(config, split)
    return DATASETS.build(bank), DATASETS.build(query)


def probe_settings(config: Config,
                   split: str = 'monitor') -> tuple[dict, dict]:
    """Settings of the bank and the query of a config.

    Args:
        config: A whole config with a ``KNNMonitorHook`` in its
            ``custom_hooks``, or with ``probe_bank`` and ``probe_query``.
        split: ``'monitor'`` reads what the hook reads; ``'final'`` reads
            ``probe_bank`` (by default the hook's bank) and ``probe_query``,
            the photographs that are kept for the end.

    Raises:
        ValueError: The config does not name the datasets.
    """
    init_default_scope(config.get('default_scope', 'mmpretrain'))
    hook: dict = next((hook for hook in config.get('custom_hooks') or []
                       if hook['type'].split('.')[-1] == 'KNNMonitorHook'), {})
    bank, query = hook.get('bank'), hook.get('query')
    if split == 'final':
        bank = config.get('probe_bank', bank)
        query = config.get('probe_query')
    if bank is None or query is None:
        needed = ('probe_query and probe_bank'
                  if split == 'final' else 'a KNNMonitorHook in custom_hooks')
        raise ValueError(
            f'{config.filename}: no labelled datasets for the {split} '
            f'probe: define {needed}, as configs/_base_/datasets/ does')
    return bank, query


def augmented_bank(config: Config, split: str = 'monitor') -> Dataset:
    """The bank of a config with the pipeline of its pre-training.

    Args:
        config: A whole config.
        split: Of :func:`probe_settings`.

    Raises:
        ValueError: The config names no bank or no training pipeline.
    """
    bank, _ = probe_settings(config, split)
    dataset = of_files((config.get('train_dataloader') or {}).get('dataset') or {})
    if 'pipeline' not in dataset:
        raise ValueError(
            f'{config.filename}: no train_dataloader.dataset.pipeline to '
            'augment the images of fine-tuning with')
    return DATASETS.build(
        dict(bank, pipeline=dataset['pipeline'], test_mode=False))


def probe_task(config: Config,
               model: nn.Module,
               split: str = 'monitor',
               device: Union[str, torch.device] = 'cpu',
               schedule: Optional[FinetuneSchedule] = None,
               **options: Any) -> ProbeTask:
    """What the probes need, from a config and its model.

    Args:
        config: A whole config.
        model: As :func:`build_model` makes it, on ``device``.
        split: Of :func:`probe_settings`.
        device: Where the model lives.
        schedule: How to fine-tune; without one the task has no augmented
            bank, and frozen probes alone.
        **options: Of :class:`mmeffmae.evaluation.probes.ProbeTask`.

    Raises:
        ValueError: The config does not name the datasets.
    """
    bank, query = probe_datasets(config, split)
    if schedule is not None:
        options.update(
            schedule=schedule, augmented=augmented_bank(config, split))
    return ProbeTask(model.backbone, model.data_preprocessor, bank, query,
                     device, model=model, **options)


def load_for_probes(
    model: nn.Module, checkpoint: Union[str, PathLike], probes: Iterable[str]
) -> tuple[dict[str, Any], LoadReport]:
    """Load the encoder's weights, and the decoder's where a probe reads them.

    Args:
        model: As :func:`build_model` makes it.
        checkpoint: As for :func:`load_weights`.
        probes: Names of probes.

    Raises:
        CheckpointError: See :func:`load_weights`.
    """
    if set(probes) & set(WHOLE_PROBES):
        return load_weights(model, checkpoint)
    return load_weights(model.backbone, checkpoint, 'backbone.')


def config_seed(config: Config) -> Optional[int]:
    """The seed that a config asks for, None if it leaves it to chance."""
    return (config.get('randomness') or {}).get('seed')
