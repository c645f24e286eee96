# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Classification of frozen tokens by learned attention."""
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .rng import isolated_rng
from .subsets import split_for_choice

#: Learning rates of AdamW to choose from.
LEARNING_RATES = (1e-3, 3e-3, 1e-2)


def head_count(channels: int, most: int = 12) -> int:
    """The largest divisor of ``channels`` up to ``most``."""
    return max(n for n in range(1, most + 1) if channels % n == 0)


class AttentiveClassifier(nn.Module):
    """Cross-attention of a learned query over tokens, then a linear layer.

    The attentive probe of CAE (Chen et al., arXiv:2202.03026), also of
    V-JEPA and CAPI. A query that depends on no image lets its projection and
    that of the keys melt into one vector a head, as in efficient probing
    (Psomas et al., arXiv:2506.10178); values are projected after the
    weighted mean, which is linear. Tokens are standardised a channel.

    Args:
        mean: Mean of the tokens, ``(C,)``.
        std: Their standard deviation, ``(C,)``.
        num_classes: Number of classes.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor, num_classes: int) -> None:
        super().__init__()
        channels = len(mean)
        heads = head_count(channels)
        self.register_buffer('mean', mean)
        self.register_buffer('std', std)
        # Attention begins as the mean.
        self.query = nn.Parameter(torch.zeros(heads, channels))
        self.value = nn.Parameter(
            torch.randn(heads, channels // heads, channels) / channels**0.5)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Scores ``(B, num_classes)`` of tokens ``(B, L, C)``."""
        tokens = tokens.float()
        # The mean adds the same to all scores of a head.
        query = self.query / (self.std * math.sqrt(len(self.std)))
        weights = (tokens @ query.T).softmax(dim=1)
        pooled = (weights.transpose(1, 2) @ tokens - self.mean) / self.std
        values = torch.einsum('bhc,hdc->bhd', pooled, self.value)
        return self.classifier(values.flatten(1))


def _statistics(tokens: Tensor, chunk: int = 1024) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, without a float copy."""
    count = tokens.shape[0] * tokens.shape[1]
    mean = sum(part.float().sum((0, 1)) for part in tokens.split(chunk)) / count
    square = sum((part.float() - mean).square().sum((0, 1))
                 for part in tokens.split(chunk)) / count
    return mean, square.sqrt().clamp_min(1e-6)


def fit_attentive(
    tokens: Tensor,
    labels: Tensor,
    num_classes: int,
    lr: float,
    weight_decay: float = 0.01,
    steps: int = 1000,
    batch_size: int = 256,
    seed: int = 0,
) -> AttentiveClassifier:
    """Train an attentive classifier by AdamW with a cosine schedule.

    Args:
        tokens: ``(N, L, C)``, float16 or float32.
        labels: ``(N,)`` int64.
        num_classes: Number of classes.
        lr: Learning rate at the first step.
        weight_decay: Of all parameters.
        steps: Optimizer steps.
        batch_size: Images of a step, at most N are used.
        seed: Of the initial weights and the order of images.

    Raises:
        ValueError: A token is not finite.
    """
    with isolated_rng(seed), torch.enable_grad():
        mean, std = _statistics(tokens)
        if not (mean.isfinite() & std.isfinite()).all():
            raise ValueError(
                'tokens are not finite in float16 (attentive probe): end the '
                'backbone with its final norm')
        model = AttentiveClassifier(mean, std, num_classes).to(tokens.device)
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=lr, weight_decay=weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        order = torch.empty(0, dtype=torch.int64)
        for _ in range(steps):
            if len(order) < min(batch_size, len(tokens)):
                order = torch.cat([order, torch.randperm(len(tokens))])
            batch, order = order.split(
                [size := min(batch_size, len(tokens)), len(order) - size])
            batch = batch.to(tokens.device)
            loss = F.cross_entropy(model(tokens[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def attentive_accuracy(
    model: AttentiveClassifier, tokens: Tensor, labels: Tensor, chunk: int = 256
) -> float:
    """Top-1 accuracy in percent."""
    correct = sum(
        int((model(part).argmax(dim=1) == label).sum())
        for part, label in zip(tokens.split(chunk), labels.split(chunk)))
    return 100.0 * correct / len(tokens)


def attentive_probe(
    bank: Tensor,
    bank_labels: Tensor,
    query: Tensor,
    query_labels: Tensor,
    learning_rates: Sequence[float] = LEARNING_RATES,
    holdout: float = 0.1,
    seed: int = 0,
    steps: int = 1000,
) -> float:
    """Top-1 accuracy of an attentive classifier on frozen tokens.

    The learning rate is chosen on a random share of the bank that the trial
    fits do not see; the classifier is then fitted on the whole bank. The
    query set is read once.

    Args:
        bank: Tokens to fit on, ``(N, L, C)``.
        bank_labels: Their classes, ``(N,)`` int64.
        query: Tokens to classify, ``(M, L, C)``.
        query_labels: Their classes, ``(M,)`` int64.
        learning_rates: Rates to choose from; a tie goes to the first.
        holdout: Share of the bank held out for the choice.
        seed: Seed of that split and of the fits.
        steps: Optimizer steps of a fit.

    Returns:
        Accuracy in percent.

    Raises:
        ValueError: The bank has fewer than two images.
    """
    num_classes = int(max(bank_labels.max(), query_labels.max())) + 1
    kept, held = split_for_choice(bank, holdout, seed)
    kept_tokens, held_tokens = bank[kept], bank[held]

    def held_accuracy(lr: float) -> float:
        trial = fit_attentive(
            kept_tokens, bank_labels[kept], num_classes, lr, steps=steps,
            seed=seed)
        return attentive_accuracy(trial, held_tokens, bank_labels[held])

    best = max(learning_rates, key=held_accuracy)
    final = fit_attentive(
        bank, bank_labels, num_classes, best, steps=steps, seed=seed)
    return attentive_accuracy(final, query, query_labels)
