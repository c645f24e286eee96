# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import math

import pytest
import torch

from mmeffmae.evaluation import knn_accuracy


def unit(*cosines):
    """Vectors whose cosine with (1, 0) is given."""
    return torch.tensor([(c, math.sqrt(1 - c * c)) for c in cosines])


BANK = unit(0.9, 0.8, 0.8)
LABELS = torch.tensor([0, 1, 1])
QUERY = torch.tensor([[1.0, 0.0]])


@pytest.mark.parametrize('temperature, winner', [
    # exp(0.9 / 0.07) = 383,000 beats 2 exp(0.8 / 0.07) = 184,000.
    (0.07, 0),
    # exp(0.9) = 2.5 loses to 2 exp(0.8) = 4.5.
    (1.0, 1),
])
def test_temperature_decides_between_nearest_and_majority(temperature, winner):
    for label in (0, 1):
        accuracy = knn_accuracy(
            BANK, LABELS, QUERY, torch.tensor([label]), 3, temperature)
        assert accuracy == (100.0 if label == winner else 0.0)


def test_only_k_neighbours_vote():
    label = torch.tensor([0])
    assert knn_accuracy(BANK, LABELS, QUERY, label, 1, 1.0) == 100.0
    assert knn_accuracy(BANK, LABELS, QUERY, label, 3, 1.0) == 0.0


def test_length_of_the_features_does_not_count():
    bank = BANK * torch.tensor([[0.1], [50.0], [50.0]])
    assert knn_accuracy(bank, LABELS, 7 * QUERY, torch.tensor([0]), 1) == 100.0


def test_chunks_change_nothing():
    generator = torch.Generator().manual_seed(0)
    bank = torch.randn(50, 6, generator=generator)
    query = torch.randn(23, 6, generator=generator)
    labels = torch.arange(50) % 4
    whole = knn_accuracy(bank, labels, query, torch.arange(23) % 4, 5)
    parts = knn_accuracy(bank, labels, query, torch.arange(23) % 4, 5, chunk=4)
    assert whole == parts
    assert 0 < whole < 100


def test_too_many_neighbours_are_named():
    with pytest.raises(ValueError, match='k=20 .* bank of 3 images'):
        knn_accuracy(BANK, LABELS, QUERY, torch.tensor([0]))
