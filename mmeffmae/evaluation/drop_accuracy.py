# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""One fine-tuned classifier at several drop ratios."""
import tempfile
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Union

from mmengine.config import Config
from mmengine.runner import Runner
from torch import nn

from mmeffmae.models.layers import TokenDrop

from .building import load_weights
from .rng import isolated_rng

_TEST_FIELDS = ('test_cfg', 'test_dataloader', 'test_evaluator')


def judge_ratios(
    config: Config,
    checkpoint: Union[str, PathLike],
    ratios: Sequence[float],
    seeds: Sequence[int] = (0,),
) -> list[dict[str, Any]]:
    """Top-1 accuracy where the most redundant tokens leave, and random ones.

    Args:
        config: Of a classifier with a ``MaskedViT`` and ``test_*`` fields.
        checkpoint: Its fine-tuned weights.
        ratios: Of each drop; nothing is random at 0.
        seeds: Of random drops, one test each.

    Returns:
        For each ratio and metric ``drop_ratio``, ``metric``, ``drop_indices``,
        ``tokens`` (patch tokens that enter and stay after each drop) and
        ``values``, percent, one for each seed.

    Raises:
        CheckpointError: The file cannot be used or does not fit.
        ValueError: The config lacks a test field, or its encoder drops no
            tokens, or a ratio leaves none.
    """
    if missing := [name for name in _TEST_FIELDS if config.get(name) is None]:
        raise ValueError(f'{config.filename} has no {", ".join(missing)}: use the '
                         'config of a classifier with its test_* fields')
    with tempfile.TemporaryDirectory(prefix='drop_accuracy_') as folder:
        runner = _runner(config, folder)
        backbone = runner.model.backbone
        if not hasattr(backbone, 'token_drop'):
            raise ValueError(
                f'{type(backbone).__name__} drops no tokens: use a config whose '
                'model.backbone is a MaskedViT')
        load_weights(runner.model, checkpoint)
        arms = [('redundancy', ratio, seeds[:1]) for ratio in ratios]
        arms += [('random', ratio, seeds) for ratio in ratios if ratio]
        return [_judge(runner, backbone, *arm) for arm in arms]


def _runner(config: Config, work_dir: str) -> Runner:
    """A runner that only tests, and writes nothing that stays."""
    config = config.copy()
    config.work_dir = work_dir
    # mmengine keeps a run's writers by name, and names by the second.
    config.experiment_name = Path(work_dir).name
    config.load_from, config.resume = None, False
    config.model.backbone.init_cfg = None
    for name in ('train', 'val'):
        for field in ('dataloader', 'cfg', 'evaluator'):
            config.pop(f'{name}_{field}', None)
    config.pop('optim_wrapper', None)
    config.pop('param_scheduler', None)
    config.log_level = 'ERROR'
    return Runner.from_cfg(config)


def _judge(
    runner: Runner, backbone: nn.Module, metric: str, ratio: float,
    seeds: Sequence[int]
) -> dict[str, Any]:
    drop = backbone.token_drop
    backbone.token_drop = TokenDrop(drop.indices, drop.num_layers, ratio, metric)
    values = []
    for seed in seeds:
        with isolated_rng(seed):
            values.append(round(float(runner.test()['accuracy/top1']), 3))
    rows, cols = backbone.patch_grid(backbone.img_size)
    return dict(
        drop_ratio=ratio,
        metric=metric,
        drop_indices=list(drop.indices),
        tokens=backbone.token_drop.counts(rows * cols),
        values=values)
