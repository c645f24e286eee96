# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""CLMAE: convolutional stem and FFN, attention shared across layers."""
import copy
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import ExponentialMovingAverage
from mmengine.optim import build_optim_wrapper
from mmengine.runner.checkpoint import _load_checkpoint_to_model
from mmpretrain.models import VisionTransformer
from torch import distributed as dist
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from mmeffmae.checkpoint import CheckpointError, load_with_report
from mmeffmae.checkpoint.export import export_backbone, stock_config
from mmeffmae.masking import MaskPlan, ParallelMasking, RandomMasking
from mmeffmae.models import ConvFFN, ConvStem, MaskedViT
from mmeffmae.models.layers import TokenLayout
from mmeffmae.registry import MODELS

sys.path.insert(0, str(Path(__file__).parents[1] / 'reference'))
import clmae as reference
import mae as mae_reference

ROOT = Path(__file__).parents[2]
ARCH = dict(embed_dims=32, num_layers=4, num_heads=4, feedforward_channels=64)
SIZES = ((4, 4), (1, 2))
CLMAE = dict(stem=dict(type='mmeffmae.ConvStem'), ffn=dict(type='mmeffmae.ConvFFN'),
             share_attn=1)
KINDS = ('overlap2', 'patch2', 'early4')


def perturbed(module):
    torch.manual_seed(0)
    module.init_weights()
    for parameter in module.parameters():
        parameter.data.add_(.05 * torch.randn_like(parameter))
    return module


def encoder(**parts):
    return perturbed(MaskedViT(ARCH, img_size=32, patch_size=8, **parts)).eval()


def algorithm(masking='mmeffmae.RandomMasking', **parts):
    return perturbed(MODELS.build(
        dict(
            type='mmeffmae.MaskedAutoencoder',
            backbone=dict(
                type='mmeffmae.MaskedViT', arch=ARCH, img_size=32, patch_size=8,
                **parts),
            neck=dict(type='mmeffmae.MaskedDecoder', decoder_embed_dim=16,
                      decoder_depth=1, decoder_num_heads=2),
            head=dict(type='mmeffmae.PixelHead'),
            masking=dict(type=masking))))


def stem(kind, patch_size=8, **kwargs):
    return perturbed(ConvStem(patch_size, 32, input_size=32, kind=kind, **kwargs))


@pytest.fixture
def images():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def plan():
    return RandomMasking(.5)(
        torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(2)))


def test_equals_the_reference(images, plan):
    model = algorithm(**CLMAE)
    w = dict(model.state_dict(keep_vars=True))
    trainable = {n: p for n, p in model.named_parameters() if p.requires_grad}
    losses = [
        model.loss(images, plan=plan)['loss_recon'],
        reference.clmae_loss(images, plan.visible[:, 0], (4, 4), w, 8, *SIZES),
    ]
    torch.testing.assert_close(*losses, atol=1e-6, rtol=1e-6)
    grads = [torch.autograd.grad(loss, trainable.values()) for loss in losses]
    for name, ours, theirs in zip(trainable, *grads):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4, msg=name)


def test_without_its_parts_it_is_mae(images, plan):
    model = algorithm(
        stem=dict(type='mmeffmae.PatchifyStem'), ffn=None, share_attn=4)
    model.backbone = tied = copy.deepcopy(model.backbone)
    plain = encoder()
    plain.load_state_dict(tied.export_state_dict(), strict=True)
    w = dict(model.state_dict(), **{
        f'backbone.{k}': v for k, v in plain.state_dict().items()})
    torch.testing.assert_close(
        model.loss(images, plan=plan)['loss_recon'],
        mae_reference.mae_loss(images, plan.visible[:, 0], w, 8, *SIZES),
        atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize('name, parameters', [
    (dict(), 60_927_888),
    (dict(stem=dict(kind='patch2')), 60_775_968),
    (dict(stem=dict(kind='early4')), 60_760_704),
    (dict(stem=None, ffn=None, share_attn=12), 85_798_656),
    (dict(ffn=None, stem=None), 85_798_656 - 25_986_048),
    (dict(share_attn=None), 86_913_936),
])
def test_sizes_of_the_base_config(name, parameters):
    cfg = Config.fromfile(
        ROOT / 'configs/clmae/clmae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py')
    cfg.merge_from_dict(dict(model=dict(backbone=name)))
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert sum(p.numel() for p in model.backbone.parameters()) == parameters
    assert sum(p.numel() for p in model.neck.parameters()) == 26_109_184


# The stems.


@pytest.mark.parametrize('patch_size', [8, 16])
@pytest.mark.parametrize('kind', KINDS)
def test_visible_patches_alone_equal_the_masked_map(kind, patch_size):
    """Rule M as written: zero the input of every convolution of the map."""
    part = stem(kind, patch_size)
    images = torch.randn(2, 3, 3 * patch_size, 4 * patch_size)
    plan = ParallelMasking(2)(torch.rand(2, 3, 4))
    tokens = part.embed_visible(images, plan).unflatten(0, (2, 2))
    for k in range(2):
        visible = plan.visible[:, k].view(2, 1, 3, 4).float()
        x = images
        for stage in part.stages:
            x = stage(x * F.interpolate(visible, x.shape[-2:]))
        ids = plan.ids_keep[:, k, :, None].expand(-1, -1, 32)
        expected = x.flatten(2).transpose(1, 2).gather(1, ids)
        torch.testing.assert_close(tokens[:, k], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('mask_conv', ['input', 'none'])
def test_nothing_leaks_from_masked_pixels(images, plan, kind, mask_conv):
    vit = encoder(**dict(CLMAE, stem=dict(
        type='mmeffmae.ConvStem', kind=kind, mask_conv=mask_conv)))
    shown = F.interpolate(plan.visible[:, 0].view(2, 1, 4, 4).float(), (32, 32))
    others = torch.where(shown.bool(), images, 3 * torch.randn_like(images))
    same = torch.equal(vit(images, plan), vit(others, plan))
    assert same == (mask_conv == 'input' or kind == 'patch2')


@pytest.mark.parametrize('kind', KINDS)
def test_hidden_slots_are_not_read_by_their_neighbours(images, plan, kind):
    part = stem(kind)
    hidden = torch.zeros_like(plan.ids_keep, dtype=torch.bool)
    hidden[..., 3:] = True
    shorter = plan._replace(ids_keep=plan.ids_keep[..., :3])
    torch.testing.assert_close(
        part.embed_visible(images, plan._replace(hidden=hidden))[:, :3],
        part.embed_visible(images, shorter), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('patch_size', [8, 16])
@pytest.mark.parametrize('kind', KINDS)
def test_a_lonely_token_sees_every_pixel_of_its_patch(kind, patch_size):
    part = stem(kind, patch_size)
    images = torch.randn(1, 3, 3 * patch_size, 3 * patch_size, requires_grad=True)
    plan = RandomMasking(.8)(1 - F.one_hot(torch.tensor([4]), 9).view(1, 3, 3).float())
    assert plan.ids_keep.tolist() == [[[4]]]
    part.embed_visible(images, plan).square().sum().backward()
    seen = images.grad.abs().sum((0, 1)) > 0
    own = seen[patch_size:-patch_size, patch_size:-patch_size]
    assert own.all() and seen.sum() == patch_size**2


def test_stems_pad_to_whole_patches_and_refuse_what_they_cannot():
    part = stem('overlap2')
    tokens, grid = part(torch.randn(1, 3, 36, 30))
    assert grid == (5, 4) and tokens.shape == (1, 20, 32)
    for settings, message in ((dict(kind='i2t'), "kind 'i2t'.*overlap2"),
                              (dict(patch_size=14), 'patch_size 14.*8, 16 or 32'),
                              (dict(mask_conv='output'), "mask_conv 'output'")):
        with pytest.raises(ValueError, match=message):
            ConvStem(**{**dict(patch_size=8, embed_dims=32), **settings})


# The feed-forward layer.


def feed_forward(**kwargs):
    return perturbed(ConvFFN(8, 16, **kwargs)).double()


def run(ffn, ids, x):
    x = x.clone().requires_grad_()
    out = ffn(x, layout=TokenLayout((3, 4), 1, ids))
    grads = torch.autograd.grad(out.square().sum(), [x, *ffn.parameters()])
    return out, *grads


@pytest.mark.parametrize('everything', [False, True])
@pytest.mark.parametrize('style', ['ceit', 'mix'])
def test_executors_agree(style, everything):
    ids = None if everything else torch.stack(
        [torch.randperm(12)[:5] for _ in range(2)])
    x = torch.randn(2, 13 if everything else 6, 8).double()
    ffn = feed_forward(style=style, executor='compact')
    compact = run(ffn, ids, x)
    ffn.executor = 'dense'
    for ours, theirs in zip(compact, run(ffn, ids, x)):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize('executor', ['compact', 'dense'])
def test_bf16_stays_near_and_weights_learn_in_fp32(executor):
    ffn = feed_forward(executor=executor).float()  # seeds
    ids = torch.stack([torch.randperm(12)[:5] for _ in range(2)])
    x = torch.randn(2, 6, 8)
    expected = run(ffn, ids, x)
    with torch.autocast('cpu', torch.bfloat16):
        values = run(ffn, ids, x)
    for value, wanted in zip(values, expected):
        assert value.dtype == torch.float32
        assert (value - wanted).norm() < .03 * wanted.norm()


@pytest.mark.parametrize('style', ['ceit', 'mix'])
def test_derivative_of_the_compact_executor(style):
    ffn = feed_forward(style=style)
    layout = TokenLayout((2, 3), 1, torch.tensor([[4, 0, 1]]))

    def compute(x, weight, bias):
        values = {'dwconv.weight': weight, 'dwconv.bias': bias}
        return torch.func.functional_call(ffn, values, (x,), dict(layout=layout))

    inputs = torch.randn(1, 4, 8).double(), ffn.dwconv.weight, ffn.dwconv.bias
    assert torch.autograd.gradcheck(
        compute, [v.detach().clone().requires_grad_() for v in inputs],
        fast_mode=True)


def test_tokens_keep_their_places():
    ffn = feed_forward()
    ids, order = torch.tensor([[7, 2, 3, 6]]), torch.tensor([2, 0, 3, 1])
    x = torch.randn(1, 5, 8).double()
    mixed = torch.cat([x[:, :1], x[:, 1:][:, order]], 1)
    out = ffn(x, layout=TokenLayout((3, 4), 1, ids))
    other = ffn(mixed, layout=TokenLayout((3, 4), 1, ids[:, order]))
    torch.testing.assert_close(out[:, 1:][:, order], other[:, 1:])
    everything = torch.arange(12)[None]
    x = torch.randn(1, 13, 8).double()
    torch.testing.assert_close(
        ffn(x, layout=TokenLayout((3, 4), 1, everything)),
        ffn(x, layout=TokenLayout((3, 4), 1)))


def test_it_starts_without_a_convolution():
    x = torch.randn(1, 13, 8)
    layout = TokenLayout((3, 4), 1)
    mix = ConvFFN(8, 16, style='mix')
    torch.testing.assert_close(mix(x, layout=layout), super(ConvFFN, mix).forward(x))
    ceit = ConvFFN(8, 16)
    ceit.load_state_dict(mix.state_dict())
    fc1, fc2 = ceit.layers[0][0], ceit.layers[1]
    expected = x + fc2(F.gelu(F.gelu(fc1(x))))
    torch.testing.assert_close(ceit(x, layout=layout), expected)


def test_every_second_layer():
    vit = encoder(ffn=[dict(type='mmeffmae.ConvFFN'), None], drop_path_rate=.3)
    assert [isinstance(layer.ffn, ConvFFN) for layer in vit.layers] == [True, False] * 2
    rates = [layer.ffn.dropout_layer.drop_prob for layer in vit.layers]
    assert rates == pytest.approx([0, .1, .2, .3])
    assert vit(torch.randn(1, 3, 32, 32))[0].shape == (1, 32, 4, 4)
    for settings, message in ((dict(style='a'), "style 'a'.*'ceit' or 'mix'"),
                              (dict(executor='b'), "executor 'b'"),
                              (dict(kernel_size=4), 'kernel_size 4 is even.*use 5')):
        with pytest.raises(ValueError, match=message):
            ConvFFN(8, 16, **settings)


# Whole images, sharing, checkpoints.


@pytest.mark.parametrize('kind', KINDS)
def test_whole_images_of_any_size(kind):
    vit = encoder(**dict(CLMAE, stem=dict(type='mmeffmae.ConvStem', kind=kind)),
                  out_indices=[1, 3])
    for size, grid in (((32, 32), (4, 4)), ((64, 80), (8, 10)), ((36, 30), (5, 4))):
        maps = vit(torch.randn(1, 3, *size))
        assert [m.shape for m in maps] == [(1, 32, *grid)] * 2
    sum(m.square().sum() for m in maps).backward()
    assert vit.pos_embed.grad.abs().sum() > 0
    everything = RandomMasking(.5)(torch.rand(1, 4, 4))
    ids = torch.arange(16).view(1, 1, 16)
    whole = everything._replace(ids_keep=ids, ids_predict=ids[..., :0])
    images = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(
        vit(images, whole)[:, 1:].transpose(1, 2).unflatten(2, (4, 4)),
        vit(images)[1], atol=1e-5, rtol=1e-5)


def test_every_parameter_is_seen_once():
    model = algorithm(**CLMAE)
    names = [n for n, _ in model.named_parameters(remove_duplicate=False)]
    assert len(names) == len(set(names)) == len(list(model.parameters()))
    cfg = Config.fromfile(ROOT / 'configs/clmae/clmae_quick.py')
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    decay = {
        id(p): g['weight_decay'] for g in wrapper.param_groups for p in g['params']}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and ('shared_attn' in name or 'dwconv' in name):
            assert bool(decay[id(parameter)]) == name.endswith(
                ('qkv.weight', 'proj.weight')), name
    average = ExponentialMovingAverage(model, momentum=.1, update_buffers=True)
    before = model.backbone.shared_attn[0].qkv.weight.detach().clone()
    average.update_parameters(model)  # the first copies
    model.backbone.shared_attn[0].qkv.weight.data.add_(1)
    average.update_parameters(model)
    torch.testing.assert_close(
        average.module.backbone.shared_attn[0].qkv.weight.data, before + .1)


def test_files_load_into_either_form(images, tmp_path):
    tied = encoder(**dict(CLMAE, share_attn=2))
    untied = encoder(**dict(CLMAE, share_attn=None))
    expected = tied(images)[0]
    report = load_with_report(untied, tied.state_dict())
    assert report.coverage == 100 and not report.resized
    assert torch.equal(untied(images)[0], expected)
    back = encoder(**dict(CLMAE, share_attn=2))
    back.load_state_dict(untied.state_dict(), strict=True)
    assert back.state_dict().keys() == tied.state_dict().keys()
    assert all(torch.equal(v, back.state_dict()[k])
               for k, v in tied.state_dict().items())
    # The Runner's own loading, of a whole model.
    model = algorithm(**dict(CLMAE, share_attn=None))
    state = {f'backbone.{k}': v for k, v in tied.state_dict().items()}
    _load_checkpoint_to_model(model, dict(state_dict=state))
    assert torch.equal(model.backbone.eval()(images)[0], expected)
    # Layers that learned apart cannot be tied.
    untied.layers[1].attn.proj.bias.data.add_(1)
    with pytest.raises(
            CheckpointError,
            match=r'the state dict: layers\.1\.attn\.proj\.bias differs'):
        load_with_report(back, untied.state_dict())


def test_the_ablation_without_convolutions_is_a_stock_vit(images, tmp_path):
    vit = encoder(share_attn=1)
    stock = VisionTransformer(ARCH, img_size=32, patch_size=8, out_type='featmap')
    stock.load_state_dict(vit.export_state_dict(), strict=True)
    stock.eval()
    torch.testing.assert_close(stock(images)[0], vit(images)[0], atol=1e-6, rtol=1e-5)
    assert stock_config(vit)['type'] == 'mmpretrain.VisionTransformer'
    with pytest.raises(CheckpointError, match='(?s)ConvStem and ConvFFN have no '
                       'counterpart.*use mmeffmae.MaskedViT'):
        stock_config(encoder(**CLMAE))
    cfg = Config(dict(
        default_scope='mmpretrain',
        model=dict(
            type='mmeffmae.MaskedAutoencoder',
            backbone=dict(type='mmeffmae.MaskedViT', arch=ARCH, img_size=32,
                          patch_size=8, share_attn=1),
            data_preprocessor=dict(
                type='mmpretrain.SelfSupDataPreprocessor', mean=[0.] * 3,
                std=[1.] * 3, to_rgb=True))))
    path = tmp_path / 'pretrain.pth'
    state = {f'backbone.{k}': v for k, v in vit.state_dict().items()}
    torch.save(dict(state_dict=state, meta=dict(cfg=cfg.pretty_text)), path)
    result = export_backbone(path)
    assert result.report.coverage == 100 and result.feature_error < 1e-5


def test_recomputing_activations_changes_no_gradient(images, plan):
    grads = []
    for with_cp in (False, True):
        torch.manual_seed(2)
        vit = encoder(**CLMAE, with_cp=with_cp, drop_path_rate=.5).train()
        torch.manual_seed(3)
        vit(images, plan).square().sum().backward()
        grads.append([p.grad for p in vit.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*grads))


def _rank(rank, port, folder):
    plans, images = torch.load(folder / 'batch.pth')
    dist.init_process_group(
        'gloo', f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    model = DistributedDataParallel(algorithm(**CLMAE, with_cp=True))
    plan = MaskPlan(*(ids[rank:rank + 1] for ids in plans), (4, 4))
    losses = model(images[rank:rank + 1], mode='loss', plan=plan)
    losses['loss_recon'].backward()
    torch.save({n: p.grad for n, p in model.module.named_parameters()},
               folder / f'{rank}.pth')
    dist.barrier()
    os._exit(0)  # Gloo's destructors wait for each other, now and then for ever.


def test_two_processes_learn_as_one(images, plan, tmp_path):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    torch.save(((plan.ids_keep, plan.ids_predict), images), tmp_path / 'batch.pth')
    # New interpreters: a fork of a process with threads can hang.
    workers = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), str(port), str(tmp_path)])
        for rank in range(2)
    ]
    for worker in workers:
        assert worker.wait(240) == 0
    model = algorithm(**CLMAE)
    model.loss(images, plan=plan)['loss_recon'].backward()
    for rank in range(2):
        grads = torch.load(tmp_path / f'{rank}.pth')
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                torch.testing.assert_close(
                    grads[name], parameter.grad, atol=1e-6, rtol=1e-4, msg=name)


if __name__ == '__main__':
    _rank(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
