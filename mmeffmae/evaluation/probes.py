# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""The table of probes that measure an encoder."""
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Union

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from .features import extract_features, labelled_dataloader
from .knn import knn_accuracy
from .linear import linear_probe


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
    """
    backbone: nn.Module
    preprocessor: nn.Module
    bank: Dataset
    query: Dataset
    device: Union[str, torch.device] = 'cpu'
    batch_size: int = 256
    num_workers: int = 0

    @cached_property
    def features(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Frozen features and labels of the bank, then of the query.

        Computed once for all probes that read them: ``(N, C)`` float32,
        ``(N,)`` int64, ``(M, C)``, ``(M,)``, on ``device``.
        """
        return self._extract(self.bank) + self._extract(self.query)

    def _extract(self, dataset: Dataset) -> tuple[Tensor, Tensor]:
        loader = labelled_dataloader(dataset, self.batch_size,
                                     self.num_workers)
        features, labels = extract_features(self.backbone, loader,
                                            self.device, self.preprocessor)
        return features.to(self.device), labels.to(self.device)


def knn(task: ProbeTask) -> float:
    """Top-1 percent of k-nearest neighbours; a monitor, no ranking."""
    return knn_accuracy(*task.features)


def linear(task: ProbeTask) -> float:
    """Top-1 percent of logistic regression on frozen features."""
    return linear_probe(*task.features)


#: Probes by name; each takes a :class:`ProbeTask` and returns percent.
PROBES: dict[str, Callable[[ProbeTask], float]] = {
    'knn': knn,
    'linear': linear,
}
