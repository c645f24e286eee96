# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Linear classification of frozen features."""
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .subsets import split_for_choice

#: Strengths of the L2 penalty to choose from, strongest first.
WEIGHT_DECAYS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)


@dataclass(frozen=True)
class LinearClassifier:
    """Logistic regression on standardised features.

    Attributes:
        weight: ``(num_classes, C)``.
        bias: ``(num_classes,)``.
        mean: Mean of the features it was fitted on, ``(C,)``.
        std: Their standard deviation, ``(C,)``.
        weight_decay: The L2 penalty it was fitted with.
    """
    weight: Tensor
    bias: Tensor
    mean: Tensor
    std: Tensor
    weight_decay: float

    def accuracy(self, features: Tensor, labels: Tensor) -> float:
        """Top-1 accuracy in percent on features ``(M, C)``."""
        standardised = (features.float() - self.mean) / self.std
        scores = F.linear(standardised, self.weight, self.bias)
        return 100.0 * float((scores.argmax(dim=1) == labels).float().mean())


def fit_linear(features: Tensor,
               labels: Tensor,
               weight_decay: float,
               num_classes: int,
               max_iter: int = 200) -> LinearClassifier:
    """Fit multinomial logistic regression with an L2 penalty by L-BFGS.

    The problem is convex and starts from zero, so the result depends on no
    random number. Minimised is the mean cross-entropy plus
    ``weight_decay / 2`` times the squared norm of the weight; features are
    standardised with their own mean and standard deviation first.

    Args:
        features: ``(N, C)`` float.
        labels: ``(N,)`` int64.
        weight_decay: Strength of the penalty.
        num_classes: Number of classes.
        max_iter: Most iterations of L-BFGS.
    """
    features = features.float()
    std, mean = torch.std_mean(features, dim=0, correction=0)
    std = std.clamp_min(1e-6)
    standardised = (features - mean) / std
    weight = features.new_zeros(num_classes, features.shape[1])
    bias = features.new_zeros(num_classes)
    parameters = [weight.requires_grad_(), bias.requires_grad_()]
    optimizer = torch.optim.LBFGS(
        parameters,
        max_iter=max_iter,
        history_size=10,
        tolerance_grad=1e-5,
        line_search_fn='strong_wolfe')

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(standardised, weight, bias), labels)
        loss = loss + 0.5 * weight_decay * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[arg-type]
    return LinearClassifier(weight.detach(), bias.detach(), mean, std,
                            weight_decay)


def linear_probe(bank: Tensor,
                 bank_labels: Tensor,
                 query: Tensor,
                 query_labels: Tensor,
                 weight_decays: Sequence[float] = WEIGHT_DECAYS,
                 holdout: float = 0.1,
                 seed: int = 0) -> float:
    """Top-1 accuracy of a linear classifier on frozen features.

    The L2 penalty is chosen on a random share of the bank that the trial
    fits do not see; the classifier is then fitted on the whole bank. The
    query set is read once. The split comes from a generator of its own.

    Args:
        bank: Features to fit on, ``(N, C)`` float.
        bank_labels: Their classes, ``(N,)`` int64.
        query: Features to classify, ``(M, C)`` float.
        query_labels: Their classes, ``(M,)`` int64.
        weight_decays: Penalties to choose from; a tie goes to the first.
        holdout: Share of the bank held out for the choice.
        seed: Seed of that split.

    Returns:
        Accuracy in percent.

    Raises:
        ValueError: The bank has fewer than two images.
    """
    num_classes = int(max(bank_labels.max(), query_labels.max())) + 1
    kept, held = split_for_choice(bank, holdout, seed)

    def held_accuracy(weight_decay: float) -> float:
        trial = fit_linear(bank[kept], bank_labels[kept], weight_decay,
                           num_classes)
        return trial.accuracy(bank[held], bank_labels[held])

    best = max(weight_decays, key=held_accuracy)
    final = fit_linear(bank, bank_labels, best, num_classes)
    return final.accuracy(query, query_labels)
