# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import sys
from pathlib import Path

import pytest
import torch
from mmpretrain.structures import DataSample

from mmeffmae.masking import MaskPlan, RandomMasking, UniformMasking, scatter_tokens
from mmeffmae.models.layers import (
    CompactLayout,
    RelativePositionMLP,
    assemble,
    compact_windows,
    gather_pixels,
    image_windows,
)
from mmeffmae.models.layers.window_attention import cut_windows
from mmeffmae.registry import MODELS

sys.path.insert(0, str(Path(__file__).parents[1] / 'reference'))
import mae as mae_reference
import um_mae as reference

SWIN = dict(
    embed_dims=8, depths=[2, 2, 2, 2], num_heads=[1, 2, 2, 4], position_dims=8)
PVT = dict(
    embed_dims=[8, 16, 24, 32], depths=[1, 2, 1, 1], num_heads=[1, 2, 2, 4],
    mlp_ratios=[2, 2, 2, 2], sr_ratios=[8, 4, 2, 1])
VIT = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)
ENCODERS = dict(UMSwin=SWIN, UMPVT=PVT, MaskedViT=VIT)
DECODER = dict(decoder_embed_dim=16, decoder_depth=2, decoder_num_heads=2)


def build(encoder='UMSwin', masking=None, neck=None, head=None, size=64, **backbone):
    torch.manual_seed(0)
    kind = 'MaskedDecoder' if encoder == 'MaskedViT' else 'PixelShuffleDecoder'
    model = MODELS.build(dict(
        type='mmeffmae.MaskedAutoencoder',
        backbone=dict(dict(type=f'mmeffmae.{encoder}', arch=ENCODERS[encoder],
                           img_size=size, patch_size=8), **backbone),
        neck=neck or dict(type=f'mmeffmae.{kind}', **DECODER),
        head=dict(type='mmeffmae.PixelHead', **(head or {})),
        masking=masking or dict(type='mmeffmae.UniformMasking')))
    model.init_weights()
    for parameter in model.parameters():
        parameter.data.add_(.05 * torch.randn_like(parameter))
    return model


def simmim(encoder='UMSwin', **kwargs):
    return build(
        encoder, dict(type='mmeffmae.WholeImageMasking'),
        dict(type='mmeffmae.SimMIMDecoder'),
        dict(norm_pix=False, loss=dict(
            type='mmpretrain.PixelReconstructionLoss', criterion='L1')), **kwargs)


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def shown_and_hidden(plan):
    """(B, rows, cols), bool, of the first view."""
    keep = plan.visible[:, 0]
    hidden = scatter_tokens(
        plan.hidden[:, 0].unsqueeze(-1), plan.ids_keep[:, 0], plan.num_patches)
    return keep.unflatten(-1, plan.grid), hidden.view(-1, *plan.grid)


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize('size', [64, 128])
def test_swin_equals_the_reference(size):
    """At 64 px the first stage alone shifts windows, at 128 px two do."""
    model = build(size=size)
    images = torch.randn(2, 3, size, size)
    plan = model.draw_plan(images)
    loss = model.loss(images, plan=plan)['loss_recon']
    expected = reference.um_loss(
        images, *shown_and_hidden(plan), dict(model.state_dict(keep_vars=True)), 8,
        list(zip(SWIN['depths'], SWIN['num_heads'])), 8, (2, 2))
    torch.testing.assert_close(loss, expected, atol=1e-6, rtol=1e-6)
    ours = gradients(model, loss)
    for name, gradient in gradients(model, expected).items():
        torch.testing.assert_close(ours[name], gradient, atol=1e-6, rtol=1e-3, msg=name)


def test_without_its_extra_it_is_mae(images):
    """On a plain ViT, nothing hidden: MAE under the same mask."""
    model = build('MaskedViT', dict(type='mmeffmae.UniformMasking', hidden_ratio=0))
    plan = model.draw_plan(images)
    assert model.backbone.mask_token is None
    expected = mae_reference.mae_loss(
        images, plan.visible[:, 0], dict(model.state_dict(keep_vars=True)), 8, (2, 4),
        (2, 2))
    loss = model.loss(images, plan=plan)['loss_recon']
    torch.testing.assert_close(loss, expected, atol=1e-6, rtol=1e-6)


def test_hidden_patches_of_a_vit_are_the_token_at_their_place(images):
    model = build('MaskedViT').eval()
    plan = model.draw_plan(images)
    hidden = plan.hidden.flatten(0, 1)
    tokens = model.backbone.patch_embed.embed_visible(images, plan)
    tokens[hidden] = model.backbone.mask_token[0]
    model.backbone.patch_embed.embed_visible = lambda *_: tokens
    expected = model.backbone(images, plan._replace(hidden=None))
    del model.backbone.patch_embed.embed_visible
    assert torch.equal(model.backbone(images, plan), expected)


@pytest.mark.parametrize('encoder', ['UMSwin', 'UMPVT'])
def test_pixels_gathered_first_give_the_tokens_gathered_later(images, encoder):
    model = build(encoder, dict(type='mmeffmae.UniformMasking', hidden_ratio=0))
    plan = model.draw_plan(images)
    layout = CompactLayout.of(plan)
    ours = model.backbone._embed_visible(images, plan, layout)
    tokens, size = model.backbone.patch_embed(images)
    tokens = model.backbone._add_positions(tokens.unflatten(1, size))
    keep = plan.visible[:, 0].unflatten(-1, plan.grid)
    later = reference.compact(tokens, keep, 4)
    torch.testing.assert_close(ours, later, atol=1e-5, rtol=1e-5)
    # Pixels alone, to the bit.
    pixels = assemble(gather_pixels(images, plan, 2), layout.slots)
    pixels = torch.pixel_shuffle(pixels.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
    assert torch.equal(pixels, reference.compact(images.permute(0, 2, 3, 1), keep, 8))


@pytest.mark.parametrize('shifted', [False, True])
@pytest.mark.parametrize('stage', range(4))
def test_bias_of_compact_windows_equals_the_direct_form(stage, shifted):
    mlp = RelativePositionMLP(3, 8)
    plan = UniformMasking(0)(torch.rand(2, 16, 32))
    layout = compact_windows(CompactLayout.of(plan), stage, 8, shifted)
    axes = torch.arange(64.), torch.arange(128.)
    place = torch.stack(torch.meshgrid(*axes, indexing='ij'), -1).expand(2, -1, -1, -1)
    keep, step = plan.visible[:, 0].unflatten(-1, plan.grid), 2**stage
    place = layout.cut(reference.compact(place, keep, 4)[:, ::step, ::step] / step)
    expected = mlp(place[:, None] - place[:, :, None]).permute(0, 3, 1, 2)
    bias = layout.bias(mlp, torch.float32)
    together = torch.ones(len(bias), 1, 1, 1, dtype=torch.bool)
    if layout.apart is not None:
        together = (layout.apart == 0).repeat(2, 1, 1).unsqueeze(1)
        assert (bias[~together.expand_as(bias)] < -90).all()
    together = together.expand_as(bias)
    torch.testing.assert_close(bias[together], expected[together])
    assert (layout.apart is not None) == (shifted and stage < 3)


@pytest.mark.parametrize('shifted', [False, True])
@pytest.mark.parametrize('size', [(32, 32), (20, 37), (16, 16), (7, 20)])
def test_bias_of_image_windows_equals_the_direct_form(size, shifted):
    mlp = RelativePositionMLP(2, 8)
    layout = image_windows(size, 16, shifted, torch.device('cpu'))
    height, width = layout.window
    assert layout.shift == tuple(8 if shifted and s > 16 else 0 for s in size)
    place = torch.cartesian_prod(torch.arange(height), torch.arange(width)).float()
    expected = mlp(place[None] - place[:, None]).permute(2, 0, 1)
    bias = layout.bias(mlp, torch.float32)
    if layout.apart is not None:
        bias = bias - layout.apart.unsqueeze(1)
    torch.testing.assert_close(bias, expected.expand_as(bias), atol=1e-4, rtol=1e-5)
    x = torch.randn(1, *size, 2)
    assert torch.equal(layout.join(layout.cut(x), size), x)


def test_shifted_windows_keep_apart_what_the_shift_brought_together():
    """A 4 × 4 map, windows of 2, shifted by 1: hand-checked."""
    layout = image_windows((4, 4), 2, True, torch.device('cpu'))
    inside, corner = layout.apart[0], layout.apart[3]
    assert (inside == 0).all()
    assert (corner == -100 * (1 - torch.eye(4))).all()
    number = torch.arange(16.).view(1, 4, 4, 1)
    assert layout.cut(number)[3, :, 0].tolist() == [15, 12, 3, 0]
    # Blocks first: two windows of 4 tokens made of four blocks.
    cut = cut_windows(number, (4, 4), (2, 2))[0, 0, :, 0]
    assert cut.tolist()[:8] == [0, 1, 4, 5, 2, 3, 6, 7]


@pytest.mark.parametrize('encoder', ['UMSwin', 'UMPVT'])
def test_hidden_and_dropped_pixels_do_not_leak(images, encoder):
    model = build(encoder).eval()
    plan = model.draw_plan(images)
    keep, hidden = shown_and_hidden(plan)
    seen = (keep & ~hidden).repeat_interleave(8, 1).repeat_interleave(8, 2)[:, None]
    before = model.backbone(images, plan)
    assert torch.equal(before, model.backbone(images * seen, plan))
    assert not torch.allclose(before, model.backbone(images * ~seen, plan))


def test_pvt_of_whole_cells_equals_the_plain_form():
    """Cells of one patch: the compact map is the image, ratios are whole."""
    model = build('UMPVT').eval()
    images = torch.randn(2, 3, 64, 64)
    ids = torch.arange(64).expand(2, 1, 64)
    plan = MaskPlan(ids, ids, (8, 8), cell=1)
    tokens = model.backbone(images, plan)
    maps = model.backbone(images)[-1]
    torch.testing.assert_close(tokens, maps.flatten(2).transpose(1, 2))
    swin = build('UMSwin').eval().backbone
    torch.testing.assert_close(
        swin(images, plan), swin(images)[-1].flatten(2).transpose(1, 2))


def test_pvt_gets_the_positions_of_its_patches_and_half_the_ratios(images):
    encoder = build('UMPVT').backbone.eval()
    plan = UniformMasking(0)(torch.rand(2, 8, 8))
    ratios = []
    for block in encoder.blocks:
        block.attn.register_forward_pre_hook(lambda _, args: ratios.append(args[1]))
    encoder(images, plan)
    assert ratios == [4, 2, 2, 1, 1]
    encoder(images)
    assert ratios[5:] == [8, 4, 4, 2, 1]
    slot, patch = 5, plan.ids_keep[1, 0, 5].item()
    row, col = 4 * (patch // 8) + 3, 4 * (patch % 8) + 1
    ours = encoder._visible_positions(plan)[1, slot, 3 * 4 + 1]
    assert torch.equal(ours, encoder.pos_embed[0, row * 32 + col])


@pytest.mark.parametrize('legacy', [False, True])
def test_positions_of_visible_tokens(legacy):
    """Two rows of two cells; the official order is that of the patches."""
    neck = MODELS.build(dict(
        type='mmeffmae.PixelShuffleDecoder', grid=(4, 4), embed_dim=6,
        patch_size=8, legacy_visible_pe_order=legacy, **DECODER))
    neck.init_weights()
    neck.decoder_embed.requires_grad_(False).weight.zero_()
    neck.decoder_embed.bias.zero_()
    # Cells in order: lower right, upper left, upper left, lower left.
    ids = torch.tensor([[[5, 2, 8, 14]]])
    plan = MaskPlan(ids, ids, (4, 4), cell=2)
    order = [2, 5, 8, 14] if legacy else [5, 2, 8, 14]
    embedded = neck.embed_visible(torch.zeros(1, 1, 6), neck.decoder_pos_embed, plan)
    assert torch.equal(embedded[0], neck.decoder_pos_embed[0, 1:][order])


def test_pixel_shuffle_puts_four_tokens_where_torch_does():
    neck = MODELS.build(dict(
        type='mmeffmae.SimMIMDecoder', embed_dim=6, patch_size=2, in_chans=1))
    ids = torch.arange(24).expand(2, 1, 24)
    plan = MaskPlan(ids, ids[..., 3:9], (4, 6), cell=1)
    tokens = torch.randn(2, 6, 6)
    maps = neck.decoder_pred(tokens).transpose(1, 2).unflatten(-1, (2, 3))
    expected = torch.pixel_shuffle(maps, 2).flatten(2).transpose(1, 2)
    assert torch.equal(neck(tokens, plan), expected[:, 3:9])


@pytest.mark.parametrize('factory', [build, simmim])
@pytest.mark.parametrize('encoder', ['UMSwin', 'UMPVT'])
def test_every_parameter_trains_compiled_and_checkpointed(images, encoder, factory):
    model = factory(encoder, drop_path_rate=.1)
    plan = model.draw_plan(images)
    torch.manual_seed(0)
    loss = model.loss(images, plan=plan)['loss_recon']
    grads = gradients(model, loss)
    for name, gradient in grads.items():
        assert gradient.isfinite().all() and gradient.abs().max() > 0, name
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert frozen <= {'backbone.pos_embed', 'neck.decoder_pos_embed'}
    model.backbone.with_cp = True
    torch.manual_seed(0)
    for name, gradient in gradients(
            model, model.loss(images, plan=plan)['loss_recon']).items():
        torch.testing.assert_close(gradient, grads[name])


@pytest.mark.parametrize('encoder', ['UMSwin', 'UMPVT'])
def test_compiles_without_graph_breaks(images, encoder):
    # Depth 2 has shifted windows.
    model = build(encoder, arch=dict(ENCODERS[encoder], depths=[2, 1, 1, 1]))
    plan = model.draw_plan(images)
    compiled = torch.compile(
        lambda x, plan: model.loss(x, plan=plan), fullgraph=True, backend='eager')
    torch.testing.assert_close(
        compiled(images, plan)['loss_recon'],
        model.loss(images, plan=plan)['loss_recon'])


@pytest.mark.parametrize('factory', [build, simmim])
def test_bf16_stays_near(images, factory):
    model = factory()
    plan = model.draw_plan(images)
    exact = model.loss(images, plan=plan)['loss_recon']
    with torch.autocast('cpu', torch.bfloat16):
        loss = model.loss(images, plan=plan)['loss_recon']
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, exact, rtol=.02, atol=0)


@pytest.mark.parametrize('encoder, arch, depth, params', [
    ('UMSwin', 'tiny', 2, (27.50, 8.41)), ('UMSwin', 'large', 8, (194.94, 28.89)),
    ('UMPVT', 'small', 2, (21.03, 7.88))])
def test_parameter_counts_are_the_published_ones(encoder, arch, depth, params):
    with torch.device('meta'):
        model = MODELS.build(dict(
            type='mmeffmae.MaskedAutoencoder',
            backbone=dict(type=f'mmeffmae.{encoder}', arch=arch),
            neck=dict(type='mmeffmae.PixelShuffleDecoder', decoder_embed_dim=512,
                      decoder_depth=depth, decoder_num_heads=16),
            head=dict(type='mmeffmae.PixelHead'),
            masking=dict(type='mmeffmae.UniformMasking')))
    for part, millions in zip((model.backbone, model.neck), params):
        count = sum(p.numel() for p in part.parameters()) / 1e6
        assert count == pytest.approx(millions, abs=.01)


@pytest.mark.parametrize('encoder', ['UMSwin', 'UMPVT'])
def test_as_a_backbone(encoder):
    settings = dict(type=f'mmeffmae.{encoder}', arch=ENCODERS[encoder], patch_size=8)
    model = MODELS.build(dict(settings, out_indices=(0, 1, 2, 3), img_size=64)).eval()
    maps = model(torch.randn(2, 3, 75, 61))  # padded to 76 x 62
    assert [tuple(m.shape) for m in maps] == [
        (2, w, h, c) for w, h, c in
        zip(model.widths, (38, 19, 10, 5), (31, 16, 8, 4))]
    assert not any(hasattr(model, name) for name in ('fc_norm', 'norm4'))
    mean = MODELS.build(dict(settings, out_type='avg_featmap')).eval()
    vector, = mean(torch.randn(2, 3, 64, 64))
    assert vector.shape == (2, model.embed_dims)
    torch.testing.assert_close(vector.mean(1), torch.zeros(2), atol=1e-5, rtol=0)
    depths = {name: model.get_layer_depth(f'backbone.{name}', 'backbone.') for name in (
        'patch_embed.projection.weight', 'blocks.0.norm1.weight',
        'blocks.2.downsample.reduction.weight', 'norm3.weight')}
    total = model.num_layers + 2
    assert list(depths.values()) == [(0, total), (1, total), (3, total),
                                     (total - 1, total)]


@pytest.mark.parametrize('encoder', ['UMSwin', 'UMPVT'])
@pytest.mark.parametrize('stages, blocks', [(-1, 0), (0, 0), (2, 2), (4, 4)])
def test_frozen_parts_need_no_gradient_from_the_start(encoder, stages, blocks):
    """DDP, which is built before training, would wait for theirs."""
    model = MODELS.build(dict(
        type=f'mmeffmae.{encoder}', arch=dict(ENCODERS[encoder], depths=[1] * 4),
        patch_size=8, img_size=64, frozen_stages=stages))
    for _ in range(2):
        learns = {name: p.requires_grad for name, p in model.named_parameters()}
        assert learns['patch_embed.projection.weight'] == (stages < 0)
        assert [learns[f'blocks.{i}.norm1.weight'] for i in range(4)] == [
            i >= blocks for i in range(4)]
        assert any(learns.values()) == (stages < 4)
        model.train()
        assert not any(part.training for part in model.patch_embed.modules()) or (
            stages < 0)


def test_masks_come_from_the_data_samples(images):
    model = build(masking=dict(type='mmeffmae.UniformMasking', from_samples=True))
    mask = torch.ones(2, 1, 8, 8, dtype=torch.bool)
    mask[0, :, ::2, ::2] = mask[1, :, 1::2, 1::2] = False
    samples = [DataSample().set_mask(m) for m in mask]
    plans = []
    model.backbone.check_plan = plans.append
    model.loss(images, samples)
    assert torch.equal(~plans[0].visible.unflatten(-1, (8, 8)), mask)
    for wrong in (None, [DataSample(), DataSample()]):
        with pytest.raises(ValueError, match='UniformMaskGenerator.*train_pipeline'):
            model.loss(images, wrong)
    model.draw_plan(images)  # pictures need no samples


@pytest.mark.parametrize('encoder', ['UMSwin', 'UMPVT'])
def test_plans_that_do_not_fit_are_refused(encoder):
    model = build(encoder)

    def loss(size, masking=None):
        images = torch.rand(1, 3, *size)
        model.masking = masking or model.masking
        return model.loss(images)

    with pytest.raises(ValueError, match=r'\(60, 64\) is not divisible by'):
        loss((60, 64))
    with pytest.raises(ValueError, match=r'grid of \(9, 8\) patches.*2x2 cells'):
        loss((72, 64))
    with pytest.raises(ValueError, match=r'grid of \(10, 8\).*a multiple of 32 px'):
        loss((80, 64))
    if encoder == 'UMSwin':
        with pytest.raises(ValueError, match=r'\[48, 24, 12, 6\].*128 or 256 px'):
            loss((64, 192))
    with pytest.raises(ValueError, match='make no smaller image.*UniformMasking'):
        loss((64, 64), RandomMasking())
    del model.backbone.mask_token
    model.backbone.mask_token = None
    with pytest.raises(ValueError, match='has none: call add_mask_token'):
        loss((64, 64), UniformMasking())


@pytest.mark.parametrize('settings, message', [
    (dict(arch='huge'), "'huge' is unknown.*'tiny'"),
    (dict(patch_size=6), 'patch_size 6.*multiple of 4'),
    (dict(window_size=7), 'window_size 7.*multiple of 16'),
    (dict(img_size=250), r'\(250, 250\).*patch_size 16'),
    (dict(out_indices=(4, )), 'four stages'),
    (dict(out_type='cls_token'), "'cls_token' is unknown")])
def test_impossible_encoders_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(dict(dict(type='mmeffmae.UMSwin', arch=SWIN), **settings))


def test_norms_without_a_gradient_are_refused():
    plan = UniformMasking()(torch.rand(1, 4, 4))
    for settings in (dict(out_indices=(2, 3)), dict(out_type='avg_featmap')):
        encoder = MODELS.build(dict(type='mmeffmae.UMSwin', arch=SWIN, **settings))
        with pytest.raises(ValueError, match='the last map alone'):
            encoder.check_plan(plan)


@pytest.mark.parametrize('with_transform', [True, False])
def test_a_run_takes_masks_from_the_pipeline(tiny_cfg, build_runner, with_transform):
    cfg = tiny_cfg()
    cfg.model.masking = dict(type='mmeffmae.UniformMasking', from_samples=True)
    if with_transform:
        cfg.train_dataloader.dataset.pipeline.insert(
            -1, dict(type='mmeffmae.UniformMaskGenerator', grid=4))
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=1)
    cfg.param_scheduler = []
    cfg.train_dataloader.sampler.type = 'mmeffmae.InfiniteKeyedSampler'
    runner = build_runner(cfg)
    if with_transform:
        runner.train()
        assert runner.iter == 1
    else:
        with pytest.raises(ValueError, match='UniformMaskGenerator.*train_pipeline'):
            runner.train()
