# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Every masking with every objective runs a step, or is refused clearly."""
import pytest
import torch

from mmeffmae.registry import MODELS

MASKINGS = dict(
    random=dict(type='RandomMasking'),
    parallel=dict(type='ParallelMasking', num_parts=4),
    partly_decoded=dict(type='ParallelMasking', num_parts=4, decode_ratio=.5),
    complementary=dict(type='ComplementaryMasking', num_parts=2))
OBJECTIVES = dict(pixels=None, consistent=dict(type='mmeffmae.SelfConsistencyLoss'))
ENCODERS = dict(plain={}, shared_attention=dict(share_attn=1))
REFUSED = {('complementary', 'consistent'): 'draw them with ParallelMasking'}


@pytest.mark.parametrize('encoder', ENCODERS)
@pytest.mark.parametrize('objective', OBJECTIVES)
@pytest.mark.parametrize('masking', MASKINGS)
def test_combination(masking, objective, encoder):
    model = MODELS.build(
        dict(
            type='mmeffmae.MaskedAutoencoder',
            backbone=dict(
                type='mmeffmae.MaskedViT', img_size=32, patch_size=8,
                arch=dict(embed_dims=32, num_layers=2, num_heads=2,
                          feedforward_channels=64), **ENCODERS[encoder]),
            neck=dict(type='mmeffmae.MaskedDecoder', decoder_embed_dim=16,
                      decoder_depth=1, decoder_num_heads=2),
            head=dict(type='mmeffmae.PixelHead', consistency=OBJECTIVES[objective]),
            masking=dict(MASKINGS[masking],
                         type=f'mmeffmae.{MASKINGS[masking]["type"]}')))
    images = torch.randn(2, 3, 32, 32)
    if (masking, objective) in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[masking, objective]):
            model.loss(images)
        return
    loss, _ = model.parse_losses(model.loss(images))
    loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
