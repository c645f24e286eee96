# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import pytest
import torch

from mmeffmae.evaluation import fit_linear, linear_probe


def clusters(count, spread, seed):
    """Three classes around the corners of a triangle, far from the origin
    and with one dimension a thousand times the other."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    noise = spread * torch.randn(count, 2, generator=generator)
    return (corners[labels] + noise) * torch.tensor([1000.0, 1.0]) + 5, labels


def test_separable_classes_are_separated():
    assert linear_probe(*clusters(90, 0.05, 0), *clusters(60, 0.05, 1)) == 100


def test_labels_without_signal_stay_at_chance():
    generator = torch.Generator().manual_seed(3)
    features, _ = clusters(600, 0.1, 0)
    bank, query = torch.randint(3, (2, 600), generator=generator)
    assert 25 < linear_probe(features, bank, features, query) < 42


def test_fit_meets_the_optimality_conditions():
    """At the optimum of the penalised loss the bias gradient is zero and the
    weight gradient is minus weight_decay times the weight."""
    features, labels = clusters(60, 0.5, 0)
    fitted = fit_linear(features, labels, 0.01, 3)
    standardised = (features - features.mean(0)) / features.std(
        0, unbiased=False)
    residual = (standardised @ fitted.weight.T + fitted.bias).softmax(1)
    residual[torch.arange(60), labels] -= 1
    torch.testing.assert_close(
        residual.T @ standardised / 60, -0.01 * fitted.weight,
        atol=1e-4, rtol=0)
    torch.testing.assert_close(
        residual.mean(0), torch.zeros(3), atol=1e-4, rtol=0)


def test_penalty_is_chosen_on_the_bank():
    """Few images, many noisy dimensions: the strong penalty is better, and
    the probe finds so without seeing the query set."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 2
    features = torch.randn(300, 60, generator=generator)
    features[:, :10] += 0.35 * (2 * labels[:, None] - 1)
    bank, query = slice(0, 100), slice(100, 300)
    weak, strong, chosen = (
        linear_probe(features[bank], labels[bank], features[query],
                     labels[query], decays, holdout=0.5)
        for decays in [(1e-6, ), (1.0, ), (1e-6, 1.0)])
    assert strong > weak + 2
    assert chosen == strong


def test_constant_features_and_repeats():
    features, labels = clusters(90, 0.3, 0)
    features = torch.cat([features, torch.ones(90, 1)], dim=1)
    state = torch.get_rng_state()
    first, second = (
        linear_probe(features, labels, features, labels) for _ in range(2))
    assert first == second > 80
    assert torch.equal(state, torch.get_rng_state())


def test_tiny_bank_is_named():
    with pytest.raises(ValueError, match=r'bank of 1 image'):
        linear_probe(
            torch.ones(1, 2), torch.tensor([0]), torch.ones(1, 2),
            torch.tensor([0]))
