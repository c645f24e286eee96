# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import sys
from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModel

from mmeffmae.evaluation.cost import saved_bytes
from mmeffmae.masking import MaskPlan, ParallelMasking, RandomMasking
from mmeffmae.registry import MODELS

sys.path.insert(0, str(Path(__file__).parents[1] / 'reference'))
import emae as emae_reference
import mae as mae_reference

ARCH = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)
DECODER = dict(decoder_embed_dim=16, decoder_depth=2, decoder_num_heads=2)
SIZES = ((2, 4), (2, 2))  # (depth, heads) of encoder and decoder


def initialised(masking=None, head=None, img_size=32, **backbone) -> BaseModel:
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='mmeffmae.MaskedAutoencoder',
            backbone=dict(
                type='mmeffmae.MaskedViT', arch=ARCH, img_size=img_size,
                patch_size=8, **backbone),
            neck=dict(type='mmeffmae.MaskedDecoder', **DECODER),
            head=dict(type='mmeffmae.PixelHead', **(head or {})),
            masking=masking or dict(type='mmeffmae.RandomMasking')))
    model.init_weights()
    return model


def perturb(model):
    """Weights that no test can mistake for each other's zeros and ones."""
    for parameter in model.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    return model


def build(*args, **kwargs):
    return perturb(initialised(*args, **kwargs))


def emae(num_parts=4, mask_ratio=None, decode_ratio=1., **backbone):
    return build(
        dict(
            type='mmeffmae.ParallelMasking', num_parts=num_parts,
            mask_ratio=mask_ratio, decode_ratio=decode_ratio),
        dict(consistency=dict(type='mmeffmae.SelfConsistencyLoss')), **backbone)


def partly_decoded_emae(**backbone):
    return emae(decode_ratio=.5, **backbone)


def gradients(model, losses):
    model.zero_grad()
    sum(v for k, v in losses.items() if 'loss' in k).backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}


@pytest.fixture
def images():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def noise():
    return torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(2))


def test_equals_mmpretrain(images, noise, monkeypatch):
    ours = build()
    stock = MODELS.build(
        dict(
            type='mmpretrain.MAE',
            data_preprocessor=dict(type='mmpretrain.SelfSupDataPreprocessor'),
            backbone=dict(
                type='mmpretrain.MAEViT', arch=ARCH, img_size=32, patch_size=8,
                mask_ratio=.75),
            neck=dict(
                type='mmpretrain.MAEPretrainDecoder', num_patches=16, patch_size=8,
                embed_dim=32, norm_cfg=dict(type='LN', eps=1e-6), **DECODER),
            head=dict(
                type='mmpretrain.MAEPretrainHead', norm_pix=True, patch_size=8,
                loss=dict(type='mmpretrain.PixelReconstructionLoss', criterion='L2'))))
    stock.load_state_dict(ours.state_dict(), strict=True)
    plan = RandomMasking(.75)(noise)
    loss = ours.loss(images, plan=plan)
    monkeypatch.setattr(torch, 'rand', lambda *_, **__: noise.flatten(1))
    stock_loss = stock.loss(images, None)
    torch.testing.assert_close(
        loss['loss_recon'], stock_loss['loss'], atol=1e-6, rtol=0)
    theirs = gradients(stock, stock_loss)
    for name, gradient in gradients(ours, loss).items():
        torch.testing.assert_close(gradient, theirs[name], atol=1e-6, rtol=0, msg=name)


def test_initialisation_equals_mmpretrain():
    from mmpretrain.models import MAEPretrainDecoder, MAEViT
    ours = initialised()
    stock = MAEViT(arch=ARCH, img_size=32, patch_size=8)
    stock.init_weights()
    neck = MAEPretrainDecoder(16, 8, 3, 32, 16, 2, 2)
    neck.init_weights()
    assert torch.equal(ours.backbone.pos_embed, stock.pos_embed)
    assert torch.equal(ours.neck.decoder_pos_embed, neck.decoder_pos_embed)
    weight = ours.backbone.patch_embed.projection.weight
    assert weight.abs().max() <= (6 / (32 + 192))**.5
    assert not ours.backbone.pos_embed.requires_grad
    assert .01 < ours.backbone.cls_token.std() < .03


def test_equals_the_reference(images, noise):
    model = build()
    plan = RandomMasking(.75)(noise)
    w = dict(model.state_dict(keep_vars=True))
    loss = model.loss(images, plan=plan)['loss_recon']
    expected = mae_reference.mae_loss(images, plan.visible[:, 0], w, 8, *SIZES)
    torch.testing.assert_close(loss, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize('num_parts', [2, 3, 4, 5])
def test_emae_equals_the_reference(images, noise, num_parts):
    model = emae(num_parts)
    plan = ParallelMasking(num_parts)(noise)
    losses = model.loss(images, plan=plan)
    ours = gradients(model, losses)
    recon, cons = emae_reference.emae_losses(
        images, noise.flatten(1).argsort(1), num_parts,
        dict(model.state_dict(keep_vars=True)), 8, *SIZES)
    torch.testing.assert_close(losses['loss_recon'], recon, atol=1e-6, rtol=1e-6)
    # Written with two stop-gradients, the value doubles and nothing else.
    torch.testing.assert_close(2 * losses['loss_cons'], cons, atol=1e-6, rtol=1e-6)
    for name, gradient in gradients(model, dict(loss=recon + cons)).items():
        torch.testing.assert_close(ours[name], gradient, atol=1e-6, rtol=1e-4, msg=name)


def test_chosen_patches_are_held_to_their_own_targets(images, noise):
    """A perfect guess of each chosen patch, in the order of the plan."""
    model = partly_decoded_emae().eval()
    plan = model.masking(noise)
    target = model.head.target(images)
    chosen = torch.stack([
        target[b, plan.ids_predict[b, k]] for b in range(3) for k in range(4)])
    model.head.consistency = None
    losses = model.head.loss(chosen, images, plan)
    assert losses == dict(loss_recon=0.)


def test_emae_of_one_part_is_mae_to_the_bit(images, noise):
    one, mae = emae(1, .75), build()
    one_losses = one.loss(images, plan=one.masking(noise))
    mae_losses = mae.loss(images, plan=mae.masking(noise))
    assert torch.equal(one_losses['loss_recon'], mae_losses['loss_recon'])
    assert one_losses['loss_cons'] == 0
    expected = gradients(mae, mae_losses)
    for name, gradient in gradients(one, one_losses).items():
        assert torch.equal(gradient, expected[name]), name


@pytest.mark.parametrize('factory', [build, emae])
def test_nothing_leaks_from_masked_pixels(images, noise, factory):
    model = factory().eval()
    plan = model.masking(noise)
    before = model.predict(images, plan).unflatten(0, (3, -1))
    shown = model.head.unpatchify(
        plan.visible[:, 0].unsqueeze(-1).expand(-1, -1, 192).float(), plan.grid)
    after = model.predict(images * shown, plan).unflatten(0, (3, -1))
    assert torch.equal(before[:, 0], after[:, 0])
    other = model.predict(images * (1 - shown), plan).unflatten(0, (3, -1))
    assert not torch.allclose(before[:, 0], other[:, 0])


@pytest.mark.parametrize('factory', [build, emae, partly_decoded_emae])
def test_every_trainable_parameter_gets_a_gradient(images, factory):
    model = factory(share_attn=1, drop_path_rate=.1)
    grads = gradients(model, model(images, mode='loss'))
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {'backbone.pos_embed', 'neck.decoder_pos_embed'}
    for name, gradient in grads.items():
        assert gradient.isfinite().all() and gradient.abs().max() > 0, name


def test_reconstruction_undoes_the_normalisation(images):
    model = build(img_size=(32, 48))
    images = torch.cat([images, images[..., :16]], -1) * 2 + 1
    plan = model.draw_plan(images)
    perfect = model.head.target(images).gather(
        1, plan.ids_predict[:, 0, :, None].expand(-1, -1, 192))
    painted = model.head.paint(perfect, images, plan)
    torch.testing.assert_close(painted[:, 0], images, atol=1e-4, rtol=0)
    painted, _ = model.reconstruct(images, plan)
    shown = model.head.unpatchify(
        plan.visible[:, 0].unsqueeze(-1).expand(-1, -1, 192).float(), plan.grid).bool()
    assert torch.equal(painted[:, 0][shown], images[shown])
    assert not torch.allclose(painted[:, 0][~shown], images[~shown])


def test_loss_of_a_hand_computed_image():
    """Two patches of 2x2 pixels; one is seen, the other is 0, 2, 4, 6."""
    head = MODELS.build(
        dict(type='mmeffmae.PixelHead', patch_size=2, in_channels=1))
    image = torch.tensor([[[[9., 9., 0., 2.], [9., 9., 4., 6.]]]])
    plan = MaskPlan(torch.tensor([[[0]]]), torch.tensor([[[1]]]), (1, 2))
    # Mean 3, unbiased variance 20/3: the target is -3, -1, 1, 3 over 2.582.
    loss = head.loss(torch.zeros(1, 1, 4), image, plan)['loss_recon']
    assert loss.item() == pytest.approx((9 + 1 + 1 + 9) / (20 / 3) / 4, abs=1e-5)
    head.norm_pix = False
    loss = head.loss(torch.zeros(1, 1, 4), image, plan)['loss_recon']
    assert loss.item() == pytest.approx((0 + 4 + 16 + 36) / 4)


def test_learns_two_images_by_heart(images):
    model = initialised(head=dict(norm_pix=False))
    images = images[:2].repeat(8, 1, 1, 1) * .5
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    first = None
    for _ in range(250):
        loss = model.loss(images)['loss_recon']
        first = first or loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < .3 * first


def test_recomputing_the_decoder_keeps_less_and_changes_no_gradient(images, noise):
    plan = RandomMasking()(noise)
    results, kept = [], []
    for with_cp in (False, True):
        model = build().train()
        model.neck.with_cp = with_cp
        results.append(gradients(model, model.loss(images, plan=plan)))
        kept.append(saved_bytes(
            model, lambda of=model: of.parse_losses(of.loss(images, plan=plan))[0]))
    assert results[0].keys() == results[1].keys()
    assert all(torch.equal(grad, results[1][name]) for name, grad in results[0].items())
    assert kept[1] < kept[0]


@pytest.mark.parametrize('factory', [build, emae, partly_decoded_emae])
def test_compiles_without_graph_breaks(images, noise, factory):
    model = factory(drop_path_rate=.1)
    plan = model.masking(noise)
    torch.manual_seed(0)
    eager = model.loss(images, plan=plan)['loss_recon']
    compiled = torch.compile(
        lambda x, plan: model.loss(x, plan=plan), fullgraph=True, backend='aot_eager')
    torch.manual_seed(0)
    torch.testing.assert_close(compiled(images, plan)['loss_recon'], eager)


def test_bf16_keeps_the_loss_in_fp32(images, noise):
    model = emae()
    exact = model.loss(images, plan=model.masking(noise))
    with torch.autocast('cpu', torch.bfloat16):
        losses = model.loss(images, plan=model.masking(noise))
    for name, value in losses.items():
        assert value.dtype == torch.float32 and value.isfinite(), name
    torch.testing.assert_close(
        losses['loss_recon'], exact['loss_recon'], rtol=.02, atol=0)


def test_images_that_the_patch_does_not_divide_are_refused():
    with pytest.raises(ValueError, match=r'\(30, 32\).*patch_size 8.*\(24, 32\)'):
        build()(torch.rand(1, 3, 30, 32), mode='loss')
    with pytest.raises(ValueError, match=r'\(225, 224\).*patch_size 8'):
        build(img_size=(225, 224))
