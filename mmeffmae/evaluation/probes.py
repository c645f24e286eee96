# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""The table of probes that measure an encoder."""
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Optional, Union

import torch
from mmengine.dataset import BaseDataset
from torch import Tensor, nn
from torch.utils.data import Dataset

from .attentive import attentive_probe
from .features import (
    extract_features,
    labelled_dataloader,
    patch_tokens,
    pool_features,
)
from .finetune import FinetuneSchedule, finetune_accuracy
from .knn import knn_accuracy
from .linear import linear_probe
from .reconstruction import explained_variance
from .subsets import describe_subset, label_subset


@dataclass
class ProbeTask:
    """An encoder and the labelled photographs that it is measured on.

    Attributes:
        backbone: The encoder, on ``device``.
        preprocessor: Its data preprocessor, on ``device``.
        bank: Labelled dataset to learn from.
        query: Labelled dataset to be judged on.
        device: Where the encoder lives.
        batch_size: Images encoded at a time.
        num_workers: Worker processes of a loader.
        augmented: The bank with the augmentation of training; what encoders
            are fine-tuned on.
        schedule: How they are fine-tuned.
        seed: Of what is learned, not of the choice of labels, which is the
            same for all seeds.
        settings: What each probe says of itself, by name; for result files.
        model: The whole model of the encoder, for :data:`WHOLE_PROBES`.
    """
    backbone: nn.Module
    preprocessor: nn.Module
    bank: Dataset
    query: Dataset
    device: Union[str, torch.device] = 'cpu'
    batch_size: int = 256
    num_workers: int = 0
    augmented: Optional[BaseDataset] = None
    schedule: FinetuneSchedule = FinetuneSchedule()
    seed: int = 0
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    model: Optional[nn.Module] = None

    @cached_property
    def features(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Frozen features and labels of the bank, then of the query.

        Computed once for all probes that read them: ``(N, C)`` float32,
        ``(N,)`` int64, ``(M, C)``, ``(M,)``, on ``device``.
        """
        return self.extract(self.bank) + self.extract(self.query)

    def untrained(self) -> 'ProbeTask':
        """The same of an encoder that has learned nothing, as a control."""
        return replace(
            self, schedule=self.schedule.from_scratch(), settings={})

    def extract(
        self,
        dataset: Dataset,
        read: Callable[[Any], Tensor] = pool_features,
    ) -> tuple[Tensor, Tensor]:
        """What ``read`` makes of the encoder's outputs, and the labels."""
        loader = labelled_dataloader(dataset, self.batch_size,
                                     self.num_workers)
        features, labels = extract_features(self.backbone, loader,
                                            self.device, self.preprocessor,
                                            read)
        return features.to(self.device), labels.to(self.device)


def knn(task: ProbeTask) -> float:
    """Top-1 percent of k-nearest neighbours; a monitor, no ranking."""
    return knn_accuracy(*task.features)


def linear(task: ProbeTask) -> float:
    """Top-1 percent of logistic regression on frozen features."""
    return linear_probe(*task.features)


def attentive(task: ProbeTask) -> float:
    """Top-1 percent of learned attention over frozen tokens."""
    return attentive_probe(*task.extract(task.bank, patch_tokens),
                           *task.extract(task.query, patch_tokens))


def finetune(task: ProbeTask, name: str, **subset: Any) -> float:
    """Top-1 percent of the whole encoder, trained on.

    On an untrained encoder this is supervised training from scratch.

    Args:
        task: Needs ``augmented``.
        name: Of the probe, for ``task.settings``.
        subset: Of :func:`mmeffmae.evaluation.subsets.label_subset`.

    Raises:
        ValueError: The task has no augmented bank.
    """
    if task.augmented is None:
        raise ValueError(
            'fine-tuning needs the bank with augmentation (ProbeTask.augmented): '
            'make the task with mmeffmae.evaluation.building.probe_task')
    labels = task.augmented.get_gt_labels()
    indices = label_subset(labels, **subset)
    task.settings[name] = dict(
        asdict(task.schedule), **describe_subset(labels, indices))
    return finetune_accuracy(
        task.backbone, task.preprocessor, task.augmented.get_subset(indices),
        task.query, int(labels.max()) + 1, task.schedule, task.device,
        task.seed, task.num_workers)


def explained(task: ProbeTask) -> float:
    """Percent of the variance of hidden patches that is reconstructed.

    Raises:
        ValueError: The task has no whole model, or one that does not
            reconstruct normalised pixels.
    """
    if task.model is None:
        raise ValueError(
            'the probe explained needs the whole model (ProbeTask.model): make the '
            'task with mmeffmae.evaluation.building.probe_task')
    return explained_variance(
        task.model, task.query, num_workers=task.num_workers)


#: Probes by name; each takes a :class:`ProbeTask` and returns percent.
PROBES: dict[str, Callable[[ProbeTask], float]] = {
    'knn': knn,
    'linear': linear,
    'attentive': attentive,
    'finetune': partial(finetune, name='finetune', share=1.0),
    'finetune_10pct': partial(finetune, name='finetune_10pct', share=0.1),
    'finetune_10pc': partial(finetune, name='finetune_10pc', per_class=10),
    'explained': explained,
}
#: Probes that need the decoder's weights, too.
WHOLE_PROBES = ('explained', )
#: Probes that take seconds once the features are there.
CHEAP_PROBES = ('knn', 'linear')
