# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Weights of other libraries give their features here, and back."""
import argparse
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner.checkpoint import CheckpointLoader

from mmeffmae.checkpoint import (
    CheckpointError,
    load_checkpoint_safely,
    load_with_report,
    register_safe_loader,
)
from mmeffmae.checkpoint.export import export_backbone
from mmeffmae.checkpoint.interop import write_for
from mmeffmae.checkpoint.layouts import LAYOUTS, from_own_names, to_own_names
from mmeffmae.engine.launch import ConfigError, set_init
from mmeffmae.models import MaskedViT

ROOT = Path(__file__).parents[2]
SIZES = dict(
    embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=128)
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def _encoder(**settings):
    return MaskedViT(
        SIZES, img_size=32, patch_size=8, out_type='raw', **settings)


def _randomize(module):
    torch.manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=.2)
    return module.eval()


def _timm(**settings):
    timm = pytest.importorskip('timm')
    return _randomize(
        timm.models.vision_transformer.VisionTransformer(
            img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2,
            num_classes=0, **settings))


def _load(path, **settings):
    """As ``init_cfg`` does in a run, after the check of the load report."""
    register_safe_loader()
    content = CheckpointLoader.load_checkpoint(str(path), 'cpu')
    encoder = _encoder(
        init_cfg=dict(type='Pretrained', checkpoint=str(path)), **settings)
    report = load_with_report(
        _encoder(**settings), content.get('state_dict', content))
    assert report.complete and report.coverage == 100.
    encoder.init_weights()
    return encoder.eval()


@pytest.mark.parametrize('scale', [None, .5])
def test_timm_features(tmp_path, scale):
    # With layer scale it is a file of DINOv2.
    theirs = _timm(init_values=scale)
    path = tmp_path / 'timm.pth'
    extra = dict(mask_token=torch.zeros(1, 32))
    torch.save(
        dict(
            model={**theirs.state_dict(), **extra},
            args=argparse.Namespace(lr=1)), path)
    ours = _load(path, layer_scale_init_value=scale or 0.)
    with torch.no_grad():
        torch.testing.assert_close(
            ours(IMAGES)[0], theirs.forward_features(IMAGES),
            atol=1e-4, rtol=1e-4)


def _huggingface(name):
    transformers = pytest.importorskip('transformers')
    settings = dict(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        image_size=32, patch_size=8, layer_norm_eps=1e-6)
    if name == 'dinov2':
        config = transformers.Dinov2Config(mlp_ratio=4, **settings)
        return _randomize(transformers.Dinov2Model(config))
    settings['intermediate_size'] = 128
    if name == 'vit':
        return _randomize(
            transformers.ViTModel(transformers.ViTConfig(**settings)))
    config = transformers.ViTMAEConfig(
        mask_ratio=0., decoder_hidden_size=32, decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2, decoder_intermediate_size=32,
        **settings)
    return _randomize(transformers.ViTMAEForPreTraining(config))


@pytest.mark.parametrize('name', ['vit', 'mae', 'dinov2'])
@pytest.mark.parametrize('from_file', [True, False])
def test_huggingface_features(tmp_path, name, from_file):
    theirs = _huggingface(name)
    path = tmp_path / 'model.safetensors'
    if from_file:  # Its files have other names than its modules.
        theirs.save_pretrained(tmp_path)
    else:
        path = tmp_path / 'memory.pth'
        torch.save(theirs.state_dict(), path)
    scale = 1. if name == 'dinov2' else 0.
    ours = _load(path, layer_scale_init_value=scale)
    with torch.no_grad():
        if name == 'mae':
            # Without a mask it still shuffles: raising noise keeps the order.
            noise = torch.arange(16.).expand(2, -1)
            expected = theirs.vit(IMAGES, noise=noise)
        else:
            expected = theirs(IMAGES)
        torch.testing.assert_close(
            ours(IMAGES)[0], expected.last_hidden_state, atol=1e-4, rtol=1e-4)


def test_exports_give_our_features_there(make_checkpoint):
    timm = pytest.importorskip('timm')
    transformers = pytest.importorskip('transformers')
    path, model = make_checkpoint()
    exported = export_backbone(path).path
    encoder = model.backbone.eval()
    encoder.out_type = 'raw'
    with torch.no_grad():
        ours = encoder(IMAGES)[0]
        theirs = timm.models.vision_transformer.VisionTransformer(
            img_size=32, patch_size=8, embed_dim=32, depth=4, num_heads=2,
            mlp_ratio=2, num_classes=0).eval()
        theirs.load_state_dict(
            torch.load(write_for('timm', exported), weights_only=True))
        torch.testing.assert_close(
            theirs.forward_features(IMAGES), ours, atol=1e-4, rtol=1e-4)
        theirs = transformers.ViTModel.from_pretrained(
            write_for('huggingface', exported), add_pooling_layer=False).eval()
        torch.testing.assert_close(
            theirs(IMAGES).last_hidden_state, ours, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('layout', LAYOUTS)
def test_names_there_and_back(layout):
    own = _randomize(_encoder(layer_scale_init_value=.1)).state_dict()
    if layout == 'huggingface':  # Its ViT has no layer scale.
        own = {key: value for key, value in own.items() if 'gamma' not in key}
    theirs = from_own_names(own, layout)
    assert not set(theirs) & set(own) - {'cls_token', 'pos_embed'}
    back = to_own_names(theirs)
    assert back.keys() == own.keys()
    assert all(torch.equal(back[key], own[key]) for key in own)


def test_init_option(tmp_path, make_checkpoint):
    path, _ = make_checkpoint()
    cfg = Config(dict(model=dict(backbone=dict())))
    set_init(cfg, str(path))
    assert cfg.model.backbone.init_cfg.prefix == 'backbone.'
    plain = tmp_path / 'plain.pth'
    torch.save(_encoder().state_dict(), plain)
    set_init(cfg, str(plain))
    assert cfg.model.backbone.init_cfg == dict(
        type='Pretrained', checkpoint=str(plain), prefix=None)
    with pytest.raises(ConfigError, match='--init: checkpoint .*none.pth is not'):
        set_init(cfg, str(tmp_path / 'none.pth'))


def test_layer_scale_is_exported_but_not_to_a_library_without_it(make_checkpoint):
    path, model = make_checkpoint(layer_scale_init_value=.5)
    result = export_backbone(path)
    assert result.feature_error < 1e-5 and result.report.coverage == 100.
    timm = torch.load(write_for('timm', result.path), weights_only=True)
    assert torch.equal(
        timm['blocks.3.ls1.gamma'], model.backbone.layers[3].attn.gamma1.weight)
    with pytest.raises(CheckpointError, match='layer scale, which ViTModel has not'):
        write_for('huggingface', result.path)


@pytest.mark.parametrize('settings, message', [
    (dict(with_cls_token=False), 'no class token'),
    (dict(final_norm=False), 'no final norm')])
def test_what_others_would_load_in_part_is_refused(
        make_checkpoint, settings, message):
    exported = export_backbone(make_checkpoint(**settings)[0]).path
    with pytest.raises(CheckpointError, match=message):
        write_for('timm', exported)


def test_refusals_name_the_tensor(tmp_path):
    tensors = {
        'patch_embed.proj.weight': torch.zeros(4, 3, 8, 8),
        'reg_token': torch.zeros(1, 4, 4)
    }
    with pytest.raises(CheckpointError, match='reg_token.*without registers'):
        to_own_names(tensors)
    own = _encoder().state_dict()
    assert to_own_names(own).keys() == own.keys()
    path = tmp_path / 'model.safetensors'
    path.write_bytes(b'not tensors')
    with pytest.raises(CheckpointError, match='not a readable checkpoint'):
        load_checkpoint_safely(path)


def test_three_lines_of_timm_load_a_vit_small(tmp_path):
    """The README's line, and a whole backbone: its own names and no others."""
    timm = pytest.importorskip('timm')
    cfg = Config.fromfile(
        ROOT / 'configs/mae/mae_vit-small-p16_1xb256-amp-coslr-300e_folder.py')
    torch.manual_seed(0)
    encoder = MODELS.build(cfg.model.backbone)
    encoder.init_weights()
    path = tmp_path / 'epoch_300.pth'
    torch.save(
        dict(state_dict={f'backbone.{key}': value
                         for key, value in encoder.state_dict().items()},
             meta=dict(cfg=cfg.pretty_text)), path)
    exported = export_backbone(path, tmp_path / 'backbone.pth').path
    write_for('timm', exported)

    theirs = timm.create_model(
        'vit_small_patch16_224', num_classes=0,
        checkpoint_path=str(tmp_path / 'backbone_timm.pth')).eval()
    encoder.eval().out_type = 'raw'
    image = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(
            theirs.forward_features(image), encoder(image)[0], atol=1e-4, rtol=1e-4)
        assert theirs(image).shape == (1, 384)
