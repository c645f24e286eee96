# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Official UM-MAE checkpoints, from synthetic ones with their names."""
import re
import runpy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner.checkpoint import CheckpointLoader

from mmeffmae.checkpoint import load_with_report, register_safe_loader
from mmeffmae.checkpoint.export import export_backbone

TOOL = Path(__file__).parents[2] / 'tools' / 'import_um_mae.py'
ARCHS = dict(
    UMSwin=dict(embed_dims=8, depths=[1, 2, 1, 1], num_heads=[1, 2, 2, 4],
                position_dims=8),
    UMPVT=dict(embed_dims=[8, 16, 24, 32], depths=[1, 1, 2, 1],
               num_heads=[1, 2, 2, 4], mlp_ratios=[2, 2, 2, 2],
               sr_ratios=[8, 4, 2, 1]))
DECODER = dict(decoder_embed_dim=16, decoder_depth=1, decoder_num_heads=2)
RENAMES = (
    ('patch_embed.projection', 'patch_embed.proj'), ('mask_token', 'vis_mask_token'),
    ('downsample.reduction', 'downsample.proj'), ('posmlp.fc1', 'posmlp.0'),
    ('posmlp.fc2', 'posmlp.2'), ('ffn.layers.0.0', 'mlp.fc1'),
    ('ffn.layers.1', 'mlp.fc2'), ('norm3', 'norm'))


def backbone(encoder, **settings):
    return dict(type=f'mmeffmae.{encoder}', arch=ARCHS[encoder], img_size=64,
                patch_size=8, **settings)


def config(encoder):
    return Config(dict(
        default_scope='mmpretrain',
        model=dict(
            type='mmeffmae.MaskedAutoencoder',
            backbone=backbone(encoder),
            neck=dict(type='mmeffmae.PixelShuffleDecoder', **DECODER),
            head=dict(type='mmeffmae.PixelHead'),
            masking=dict(type='mmeffmae.UniformMasking'),
            data_preprocessor=dict(
                type='mmpretrain.SelfSupDataPreprocessor', to_rgb=True,
                mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]))))


def pretrained(encoder):
    torch.manual_seed(0)
    model = MODELS.build(config(encoder).model)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=.2)
    return model.eval()


def official(model):
    """The model's weights as the official code would save them."""
    tensors = {}
    for key, value in model.backbone.state_dict().items():
        for ours, theirs in RENAMES:
            key = key.replace(ours, theirs)
        if re.search(r'posmlp\.\d\.weight|attn\.sr\.weight', key):
            value = value[..., None, None]
        tensors[key] = value
    for key, value in model.neck.state_dict().items():
        if key == 'decoder_pos_embed':
            value = value[:, 1:]
        for ours, theirs in (('.ln', '.norm'), ('ffn.layers.0.0', 'mlp.fc1'),
                             ('ffn.layers.1', 'mlp.fc2')):
            key = key.replace(ours, theirs)
        tensors[re.sub('^ln1', 'decoder_norm', key)] = value
    return dict(tensors, **{'head.weight': torch.zeros(5, 32)})


@pytest.mark.parametrize('encoder', ARCHS)
def test_an_encoder_loads_the_official_names(encoder, tmp_path):
    model = pretrained(encoder)
    path = tmp_path / 'official.pth'
    torch.save(dict(model=official(model), epoch=199), path)
    register_safe_loader()
    tensors = CheckpointLoader.load_checkpoint(str(path), 'cpu')['state_dict']
    images = torch.randn(1, 3, 64, 64)
    for settings, missing in (
            (dict(), 0), (dict(out_type='avg_featmap'), 2),
            (dict(out_indices=(0, 1, 2, 3)), 6)):
        fresh = MODELS.build(backbone(encoder, **settings))
        report = load_with_report(fresh, tensors)
        assert report.complete and report.coverage == 100.
        assert len(report.missing) == missing
        loaded = MODELS.build(backbone(
            encoder, init_cfg=dict(type='Pretrained', checkpoint=str(path)),
            **settings))
        loaded.init_weights()
        if settings.get('out_type') is None:
            assert torch.equal(
                loaded.eval()(images)[-1], model.backbone(images)[-1])


def test_positions_of_another_size_are_resized(tmp_path):
    tensors = official(pretrained('UMPVT'))
    fresh = MODELS.build(dict(backbone('UMPVT'), img_size=128))
    assert load_with_report(fresh, tensors).resized == ('pos_embed', )
    table = tensors['pos_embed'].unflatten(1, (32, 32)).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(table, (64, 64), mode='bicubic')
    torch.testing.assert_close(
        fresh.pos_embed, expected.flatten(2).transpose(1, 2), check_stride=False)


@pytest.mark.parametrize('encoder', ARCHS)
def test_the_tool_imports_encoder_and_decoder(encoder, tmp_path, capsys):
    model = pretrained(encoder)
    torch.save(dict(model=official(model)), tmp_path / 'official.pth')
    (tmp_path / 'config.py').write_text(config(encoder).pretty_text)
    main = runpy.run_path(str(TOOL))['main']
    out = tmp_path / 'ours.pth'
    arguments = [str(tmp_path / 'config.py'), str(tmp_path / 'official.pth')]
    assert main([*arguments, '--out', str(out)]) == 0
    assert capsys.readouterr().out.count('coverage   100.0 %') == 2
    content = torch.load(out, weights_only=True)
    for key, value in model.state_dict().items():
        if key != 'neck.decoder_pos_embed':
            assert torch.equal(content['state_dict'][key], value), key
    assert 'legacy_visible_pe_order=True' in content['meta']['cfg']

    assert main([arguments[0], str(out)]) == 1
    assert 'our own need no import' in capsys.readouterr().err
    tensors = {k: v for k, v in official(model).items() if 'decoder' not in k}
    tensors.pop('mask_token')
    torch.save(dict(model=tensors), tmp_path / 'official.pth')
    assert main(arguments) == 1
    assert 'has no decoder' in capsys.readouterr().err


@pytest.mark.parametrize('encoder', ARCHS)
def test_export_loads_back_whole(encoder, tmp_path):
    model = pretrained(encoder)
    path = tmp_path / 'pretrain.pth'
    torch.save(dict(state_dict=model.state_dict(),
                    meta=dict(cfg=config(encoder).pretty_text)), path)
    result = export_backbone(path)
    assert result.report.coverage == 100. and result.feature_error < 1e-5
    content = torch.load(result.path, weights_only=True)
    assert 'backbone.mask_token' not in content['state_dict']
    fresh = MODELS.build(dict(result.backbone, out_indices=(0, 1, 2, 3)))
    report = load_with_report(fresh, content['state_dict'], prefix='backbone.')
    assert report.complete and len(report.missing) == 6
    for name, text in result.snippets().items():
        assert f"type='mmeffmae.{encoder}'" in text, name
        Config.fromstring(text, '.py')
