# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Fine-tuning of an encoder as an mmpretrain classifier."""
import copy
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Union

import torch
from mmengine.dataset import BaseDataset
from mmengine.device import get_device
from mmengine.runner import Runner
from mmpretrain.models import ImageClassifier, LinearClsHead
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mmeffmae.datasets.samplers import InfiniteKeyedSampler

from .features import (
    collate_images,
    evaluation_mode,
    labelled_dataloader,
    pool_features,
)
from .rng import isolated_rng


@dataclass(frozen=True)
class FinetuneSchedule:
    """How an encoder is fine-tuned: MAE's recipe (arXiv 2111.06377, appendix
    A.1), with crops and flips as the only augmentation.

    The number of views is the same for every share of the labels, so that
    probes differ in the labels alone, and all cost the same.

    Attributes:
        views: Images drawn, repetitions included.
        batch_size: Images of a step.
        lr: Peak learning rate of the head, by AdamW.
        layer_decay: Factor of the learning rate from each layer to the one
            before it.
        weight_decay: Of matrices; norms, biases, positions have none.
        warmup: Share of the steps in which the rate rises.
        label_smoothing: Mass that the target gives to all classes.
    """
    views: int = 40_000
    batch_size: int = 64
    lr: float = 1e-3
    layer_decay: float = 0.75
    weight_decay: float = 0.05
    warmup: float = 0.1
    label_smoothing: float = 0.1

    @property
    def steps(self) -> int:
        """Optimizer steps, at least one."""
        return max(1, self.views // self.batch_size)

    def from_scratch(self) -> 'FinetuneSchedule':
        """For an untrained encoder, whose layers all have to learn alike."""
        return replace(self, layer_decay=1.0)


#: By scale: ``c`` for two CPU cores, ``g`` for one GPU.
SCHEDULES = dict(
    c=FinetuneSchedule(),
    g=FinetuneSchedule(views=420_000, batch_size=256, lr=2e-3))


class _Pool(nn.Module):
    """The pooling of all probes, as a neck."""

    def forward(self, outputs: Union[Tensor, Sequence[Tensor]]) -> tuple[Tensor]:
        return pool_features(outputs),


def build_classifier(
    backbone: nn.Module,
    preprocessor: nn.Module,
    num_classes: int,
    num_channels: int,
    label_smoothing: float,
) -> ImageClassifier:
    """A classifier on a copy of an encoder, all of whose weights learn.

    Args:
        backbone: The encoder; kept as it is.
        preprocessor: Its data preprocessor.
        num_classes: Number of classes.
        num_channels: Width of the pooled features.
        label_smoothing: See :class:`FinetuneSchedule`.
    """
    head = LinearClsHead(
        num_classes,
        num_channels,
        loss=dict(
            type='mmpretrain.LabelSmoothLoss',
            label_smooth_val=label_smoothing,
            mode='original'))
    nn.init.trunc_normal_(head.fc.weight, std=2e-5)
    nn.init.zeros_(head.fc.bias)
    classifier = ImageClassifier(
        copy.deepcopy(backbone), _Pool(), head,
        data_preprocessor=copy.deepcopy(preprocessor))
    # The runner would initialise the encoder anew.
    classifier.init_weights = _keep_weights
    return classifier.requires_grad_(True)


def _keep_weights() -> None:
    pass


def _optim_wrapper(schedule: FinetuneSchedule) -> dict:
    return dict(
        type='mmeffmae.BFloat16OptimWrapper',
        optimizer=dict(
            type='AdamW',
            lr=schedule.lr,
            betas=(0.9, 0.999),
            weight_decay=schedule.weight_decay),
        constructor='mmeffmae.LayerDecayOptimWrapperConstructor',
        paramwise_cfg=dict(layer_decay_rate=schedule.layer_decay))


def _param_scheduler(schedule: FinetuneSchedule) -> list[dict]:
    warmup = max(1, round(schedule.warmup * schedule.steps))
    return [
        dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=warmup),
        dict(
            type='CosineAnnealingLR',
            by_epoch=False,
            begin=warmup,
            end=schedule.steps,
            T_max=max(1, schedule.steps - warmup)),
    ]


def build_runner(
    classifier: ImageClassifier,
    bank: BaseDataset,
    query: Dataset,
    schedule: FinetuneSchedule,
    work_dir: Path,
    seed: int = 0,
    num_workers: int = 0,
    test_batch_size: int = 256,
) -> Runner:
    """A runner that is ready to train the classifier and then to test it.

    Args:
        classifier: As :func:`build_classifier` makes it.
        bank: Labelled photographs to learn from, augmented.
        query: Labelled photographs to be judged on.
        schedule: How to train.
        work_dir: Where the runner may write; names its log.
        seed: Of the order, the crops and drop-out.
        num_workers: Worker processes of a loader.
        test_batch_size: Images judged at a time.
    """
    return Runner(
        model=classifier,
        work_dir=str(work_dir),
        experiment_name=work_dir.name,
        train_dataloader=DataLoader(
            bank,
            schedule.batch_size,
            sampler=InfiniteKeyedSampler(bank, seed=seed),
            num_workers=num_workers,
            collate_fn=collate_images),
        train_cfg=dict(by_epoch=False, max_iters=schedule.steps),
        optim_wrapper=_optim_wrapper(schedule),
        param_scheduler=_param_scheduler(schedule),
        test_dataloader=labelled_dataloader(query, test_batch_size, num_workers),
        test_evaluator=dict(type='mmpretrain.Accuracy'),
        test_cfg=dict(),
        default_hooks=dict(logger=None, checkpoint=None),
        custom_hooks=[
            dict(type='mmeffmae.KeyedRandomnessHook'),
            dict(type='mmeffmae.NonFiniteGuardHook'),
        ],
        default_scope='mmpretrain',
        randomness=dict(seed=seed),
        log_level='ERROR')


def finetune_accuracy(
    backbone: nn.Module,
    preprocessor: nn.Module,
    bank: BaseDataset,
    query: Dataset,
    num_classes: int,
    schedule: FinetuneSchedule,
    device: Union[str, torch.device] = 'cpu',
    seed: int = 0,
    num_workers: int = 0,
) -> float:
    """Fine-tune a copy of an encoder and judge it once, at the end.

    Args:
        backbone: The encoder; kept as it is.
        preprocessor: Its data preprocessor.
        bank: Labelled photographs to learn from, augmented.
        query: Labelled photographs to be judged on.
        num_classes: Number of classes.
        schedule: How to train.
        device: Where to train.
        seed: Of the head, the order, the crops and drop-out.
        num_workers: Worker processes of a loader.

    Returns:
        Top-1 accuracy in percent.

    Raises:
        ValueError: mmengine trains on another device, or the encoder has no
            ``get_layer_depth``.
        FloatingPointError: The loss is not finite.
    """
    if torch.device(device).type != torch.device(get_device()).type:
        raise ValueError(
            f'fine-tuning on {device}: mmengine trains on {get_device()}, where '
            'there is one; use that device, or hide it (CUDA_VISIBLE_DEVICES=)')
    with isolated_rng(seed), tempfile.TemporaryDirectory(
            prefix='finetune_') as folder:
        classifier = build_classifier(
            backbone, preprocessor, num_classes,
            _width(backbone, preprocessor, query), schedule.label_smoothing)
        runner = build_runner(
            classifier, bank, query, schedule, Path(folder), seed, num_workers)
        try:
            runner.train()
            return float(runner.test()['accuracy/top1'])
        finally:
            _close_log(runner)


def _width(backbone: nn.Module, preprocessor: nn.Module, dataset: Dataset) -> int:
    """Channels of the pooled features."""
    batch = preprocessor(collate_images([dataset[0]]), False)['inputs']
    device = next(backbone.parameters()).device
    with evaluation_mode(backbone):
        return pool_features(backbone(batch.to(device))).shape[1]


def _close_log(runner: Runner) -> None:
    """Let go of the log file, whose folder goes."""
    for handler in list(runner.logger.handlers):
        if isinstance(handler, logging.FileHandler):
            handler.close()
            runner.logger.removeHandler(handler)
