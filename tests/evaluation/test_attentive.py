# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import pytest
import torch

from mmeffmae.evaluation import linear_probe
from mmeffmae.evaluation.attentive import (
    AttentiveClassifier,
    attentive_probe,
    head_count,
)
from mmeffmae.evaluation.features import patch_tokens


def one_telling_token(count, seed):
    """Sixteen tokens carry a sign; the class is the sign of the marked one."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(count, 16, 6, generator=generator)
    signs = torch.randint(2, (count, 16), generator=generator)
    tokens[..., 1] += 6 * signs
    marked = torch.randint(16, (count, ), generator=generator)
    images = torch.arange(count)
    tokens[images, marked, 0] += 8
    # Neither scale nor offset of a channel matters.
    tokens = tokens * torch.tensor([100, 1, 1, 0.01, 1, 1]) + 3
    return tokens.half(), signs[images, marked]


def test_attention_finds_what_the_mean_hides():
    bank, query = one_telling_token(600, 0), one_telling_token(300, 1)
    pooled = [x.float().mean(1) if x.dim() == 3 else x for x in (*bank, *query)]
    assert linear_probe(*pooled) < 75
    state = torch.get_rng_state()
    accuracy = attentive_probe(*bank, *query, steps=150)
    assert accuracy > 90
    assert accuracy == attentive_probe(*bank, *query, steps=150)
    assert torch.equal(state, torch.get_rng_state())


def test_attention_is_that_of_an_explicit_query():
    """Folded projections and statistics equal those written out."""
    torch.manual_seed(0)
    mean, std = torch.randn(6), torch.rand(6) + 0.5
    model = AttentiveClassifier(mean, std, num_classes=3)
    torch.nn.init.normal_(model.query)
    tokens = torch.randn(2, 5, 6)
    x = (tokens - mean) / std
    heads = [
        (x @ query / 6**0.5).softmax(1)[..., None] * (x @ value.T)
        for query, value in zip(model.query, model.value)
    ]
    expected = model.classifier(torch.cat(heads, dim=-1).sum(1))
    torch.testing.assert_close(model(tokens), expected)


def test_tokens_of_outputs():
    maps = torch.arange(8.0).reshape(1, 2, 2, 2)
    assert patch_tokens((None, maps)).tolist() == [[[0, 4], [1, 5], [2, 6],
                                                    [3, 7]]]
    assert patch_tokens([torch.zeros(1, 3, 2)]).shape == (1, 3, 2)
    with pytest.raises(ValueError, match=r'\(4, 2\).*out_type'):
        patch_tokens([torch.zeros(4, 2)])


def test_heads_divide_the_channels():
    assert [head_count(c) for c in (192, 1024, 32, 7, 13)] == [12, 8, 8, 7, 1]


def test_unusable_banks_are_named():
    one = torch.ones(1, 2, 3), torch.tensor([0])
    with pytest.raises(ValueError, match='bank of 1 image'):
        attentive_probe(*one, *one)
    bank = torch.full((4, 2, 3), float('inf')), torch.tensor([0, 1, 0, 1])
    with pytest.raises(ValueError, match='not finite'):
        attentive_probe(*bank, *bank)
