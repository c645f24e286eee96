# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Every masking with every objective runs a step, or is refused clearly."""
import pytest
import torch
from mmengine.optim import OptimWrapper

from mmeffmae.engine.decorrelation import DecorrelationSettings, Decorrelator
from mmeffmae.registry import MODELS

MASKINGS = dict(
    random=dict(type='RandomMasking'),
    parallel=dict(type='ParallelMasking', num_parts=4),
    partly_decoded=dict(type='ParallelMasking', num_parts=4, decode_ratio=.5),
    complementary=dict(type='ComplementaryMasking', num_parts=2),
    uniform=dict(type='UniformMasking'),
    uniform_parts=dict(type='UniformMasking', num_parts=4),
    whole=dict(type='WholeImageMasking'))
OBJECTIVES = dict(pixels=None, consistent=dict(type='mmeffmae.SelfConsistencyLoss'))
PLAIN = dict(
    type='mmeffmae.MaskedViT', img_size=32, patch_size=8,
    arch=dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64))
ENCODERS = dict(
    plain=PLAIN,
    shared_attention=dict(PLAIN, share_attn=1),
    convolutional=dict(
        PLAIN, stem=dict(type='mmeffmae.ConvStem'),
        ffn=dict(type='mmeffmae.ConvFFN'), share_attn=1),
    um_swin=dict(
        type='mmeffmae.UMSwin', img_size=32, patch_size=8,
        arch=dict(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2],
                  position_dims=4)),
    um_pvt=dict(
        type='mmeffmae.UMPVT', img_size=32, patch_size=8,
        arch=dict(embed_dims=[8, 8, 16, 32], depths=[1, 1, 1, 1],
                  num_heads=[1, 1, 2, 2], mlp_ratios=[2, 2, 2, 2],
                  sr_ratios=[8, 4, 2, 1])))
PYRAMIDS = ('um_swin', 'um_pvt')


def refusal(masking, objective, encoder):
    """What the error says, if a cell of the table cannot be."""
    if encoder in PYRAMIDS and masking not in ('uniform', 'uniform_parts', 'whole'):
        return 'make no smaller image'
    if (masking, objective) == ('complementary', 'consistent'):
        return 'draw them with ParallelMasking'
    return None


@pytest.mark.parametrize('encoder', ENCODERS)
@pytest.mark.parametrize('objective', OBJECTIVES)
@pytest.mark.parametrize('masking', MASKINGS)
def test_combination(masking, objective, encoder):
    model = MODELS.build(
        dict(
            type='mmeffmae.MaskedAutoencoder',
            backbone=ENCODERS[encoder],
            neck=dict(type='mmeffmae.' + (
                'PixelShuffleDecoder' if encoder in PYRAMIDS else 'MaskedDecoder'),
                decoder_embed_dim=16, decoder_depth=1, decoder_num_heads=2),
            head=dict(type='mmeffmae.PixelHead', consistency=OBJECTIVES[objective]),
            masking=dict(MASKINGS[masking],
                         type=f'mmeffmae.{MASKINGS[masking]["type"]}')))
    images = torch.randn(2, 3, 32, 32)
    message = refusal(masking, objective, encoder)
    if message is not None:
        with pytest.raises(ValueError, match=message):
            model.loss(images)
        return
    loss, _ = model.parse_losses(model.loss(images))
    loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    decorrelate(model, images)


def decorrelate(model, images):
    """Decorrelation goes with every cell: each layer's R learns in a step."""
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-3))
    decorrelator = Decorrelator(
        model.train(), wrapper,
        DecorrelationSettings(eta=.1, patch_embed=True, fc2_blocks=1))
    loss, _ = model.parse_losses(model(images, mode='loss'))
    wrapper.update_params(loss)
    for name, layer in decorrelator.layers.items():
        eye = torch.eye(layer.decorrelation.size(-1))
        assert not torch.allclose(layer.decorrelation, eye), name


#: Teacher features as targets: the masking has to leave the teacher something.
TEACHER_REFUSES = ('parallel', 'partly_decoded', 'uniform_parts', 'whole')


@pytest.mark.parametrize('encoder', ENCODERS)
@pytest.mark.parametrize('masking', MASKINGS)
def test_combination_with_a_teacher(masking, encoder):
    settings = dict(
        type='mmeffmae.PCAE',
        backbone=ENCODERS[encoder],
        neck=dict(type='mmeffmae.MaskedDecoder', decoder_embed_dim=16,
                  decoder_depth=1, decoder_num_heads=2),
        head=dict(type='mmeffmae.FeatureHead'),
        masking=dict(MASKINGS[masking],
                     type=f'mmeffmae.{MASKINGS[masking]["type"]}'),
        teacher=dict(drop_indices=(0, 1)))
    if encoder in PYRAMIDS:
        with pytest.raises(ValueError, match='cannot drop tokens.*use MaskedViT'):
            MODELS.build(settings)
        return
    model = MODELS.build(settings)
    images = torch.randn(2, 3, 32, 32)
    if masking in TEACHER_REFUSES:
        with pytest.raises(ValueError, match='draw them with ComplementaryMasking'):
            model.loss(images)
        return
    model.parse_losses(model.loss(images))[0].backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_the_teacher_of_a_decorrelated_student_averages_folded_weights():
    model = MODELS.build(
        dict(
            type='mmeffmae.PCAE', backbone=PLAIN,
            neck=dict(type='mmeffmae.MaskedDecoder', decoder_embed_dim=16,
                      decoder_depth=1, decoder_num_heads=2),
            head=dict(type='mmeffmae.FeatureHead'),
            masking=dict(type='mmeffmae.ComplementaryMasking'),
            teacher=dict(momentum=.75, end_momentum=.75, drop_indices=(0, 1))))
    model.init_weights()
    decorrelate(model, torch.randn(2, 3, 32, 32))
    encoder, teacher = model.backbone, model.teacher
    before = {k: v.clone() for k, v in teacher.module.state_dict().items()}
    teacher.update_parameters(encoder)
    after, folded = teacher.module.state_dict(), encoder.state_dict()
    assert after.keys() == folded.keys()  # no R
    for name, value in after.items():
        torch.testing.assert_close(value, .75 * before[name] + .25 * folded[name])
    raw = dict(encoder.named_parameters())['layers.0.attn.qkv.weight']
    assert not torch.equal(raw, folded['layers.0.attn.qkv.weight'])
