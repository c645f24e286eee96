# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import runpy
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmpretrain.models import VisionTransformer

from mmeffmae.checkpoint import CheckpointError
from mmeffmae.checkpoint.export import export_backbone, stock_arch

TOOL = Path(__file__).parents[2] / 'tools' / 'export_backbone.py'


def _stock(result, **settings):
    model = MODELS.build(dict(result.backbone, out_type='featmap', **settings))
    tensors = torch.load(result.path, weights_only=True)['state_dict']
    model.load_state_dict(
        {k.removeprefix('backbone.'): v for k, v in tensors.items()})
    model.eval()
    return model


def test_export_is_plain_complete_and_describes_itself(make_checkpoint):
    path, model = make_checkpoint()
    result = export_backbone(path)
    assert result.path == path.with_name('pretrain_backbone.pth')
    content = torch.load(result.path, weights_only=True)
    tensors, meta = content['state_dict'], content['meta']
    own = model.backbone.state_dict()
    assert set(tensors) == {f'backbone.{key}' for key in own}
    assert all(type(value) is torch.Tensor for value in tensors.values())
    assert torch.equal(tensors['backbone.ln1.weight'], own['ln1.weight'])
    assert result.report.coverage == 100. and not result.report.resized
    assert result.feature_error < 1e-5
    assert meta['arch']['embed_dims'] == 32
    for key, value in dict(
            img_size=32, patch_size=8, grid=[4, 4], source_grid=[4, 4],
            mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
            channel_order='rgb', epoch=3,
            method='mmeffmae.MaskedAutoencoder + mmeffmae.RandomMasking + '
            'mmeffmae.PixelHead').items():
        assert meta[key] == value
    assert len(meta['config_hash']) == 12


def test_config_file_and_stored_text_give_the_same_export(
        make_checkpoint, tmp_path):
    path, _ = make_checkpoint()
    text = torch.load(path, weights_only=True)['meta']['cfg']
    (tmp_path / 'config.py').write_text(text)
    stored = export_backbone(path, tmp_path / 'a.pth')
    given = export_backbone(
        path, tmp_path / 'b.pth', config=tmp_path / 'config.py')
    assert stored.meta == given.meta


@pytest.mark.parametrize('backbone, norm', [
    (dict(type='mmeffmae.MaskedViT', out_type='avg_featmap', final_norm=False,
          drop_ratio=.25), 'ln2'),
    (dict(type='mmpretrain.VisionTransformer', out_type='cls_token'), None),
    (dict(type='mmeffmae.UMSwin', out_type='avg_featmap', arch=dict(
        embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1],
        position_dims=4)), 'fc_norm'),
])
def test_a_classifier_exports_the_maps_before_its_pooling(
        backbone, norm, tmp_path):
    cfg = Config(dict(model=dict(
        type='ImageClassifier',
        backbone=dict(dict(
            arch=dict(embed_dims=32, num_layers=2, num_heads=2,
                      feedforward_channels=64),
            img_size=32, patch_size=8), **backbone),
        data_preprocessor=dict(mean=[0.] * 3, std=[1.] * 3, to_rgb=True))))
    encoder = MODELS.build(cfg.model.backbone)
    path = tmp_path / 'classifier.pth'
    own = encoder.state_dict()
    torch.save(dict(state_dict={f'backbone.{k}': v for k, v in own.items()},
                    meta=dict(cfg=cfg.pretty_text)), path)
    result = export_backbone(path)
    tensors = torch.load(result.path, weights_only=True)['state_dict']
    pooled = {key for key in own if key.split('.')[0] in (norm, 'mask_token')}
    new = {'norm3.weight', 'norm3.bias'} if norm == 'fc_norm' else set()
    assert set(tensors) == {f'backbone.{k}' for k in {*own} - pooled | new}
    assert all(torch.equal(tensors[f'backbone.{k}'], own[k]) for k in {*own} - pooled)
    assert _stock(result)(torch.randn(1, 3, 32, 32))[-1].dim() == 4


def test_sizes_get_a_stock_name_or_a_dict():
    arch = dict(
        embed_dims=384, num_layers=12, num_heads=6, feedforward_channels=1536)
    # Stock 'small' is another model than DeiT-S.
    assert stock_arch(arch) == 'deit-small'
    assert stock_arch(dict(arch, num_heads=12))['num_heads'] == 12
    huge = VisionTransformer.arch_zoo['h']
    assert stock_arch(huge) == 'huge'


def test_a_non_square_grid_becomes_square(make_checkpoint):
    path, model = make_checkpoint(img_size=(96, 128))
    result = export_backbone(path)
    assert result.meta['source_grid'] == [12, 16]
    assert result.meta['grid'] == [14, 14] and result.meta['img_size'] == 112
    assert 'position grid 12x16 resized to 14x14' in result.summary()
    table = torch.load(
        result.path, weights_only=True)['state_dict']['backbone.pos_embed']
    assert table.shape == (1, 197, 32)
    stock = _stock(result)
    back = stock.resize_pos_embed(table, (14, 14), (12, 16), 'bicubic', 1)
    own = model.backbone.pos_embed
    assert torch.equal(table[:, 0], own[:, 0])
    # The sine table's finest waves lose some of their height, no more.
    assert (back - own).pow(2).mean() < 1e-3 * own.pow(2).mean()
    assert result.feature_error < 0.1
    model.backbone.eval()
    image = torch.randn(1, 3, 96, 128)
    assert stock(image)[-1].shape == model.backbone(image)[-1].shape


@pytest.mark.parametrize('part, message', [
    (dict(prefix='encoder.'), r"prefix 'encoder\.' selects no tensor.*"
     r"set prefix='backbone\.', which holds 54 of the 54"),
    (dict(embed_dims=64), r'embed_dims 32, 4 layers, patch_size 8, the model '
     r'has embed_dims 64, 4 layers'),
    (dict(img_size=64), r'other sizes than its config says'),
    (dict(model='none'), r'carries no config with model\.backbone: give the '
     r'config of the run with --config'),
    (dict(type='subprocess.check_output'), r"'subprocess\.check_output' "
     r'\(scope mmpretrain\), which is no registered class'),
    # Registries import what they do not know: these open a file, or any module.
    (dict(type='mmengine.load'), r"'mmengine\.load'.* no registered"),
    (dict(type='mmpretrain.get_model'), 'no registered class'),
    (dict(type='antigravity'), 'no registered class'),
    (dict(_scope_='evil'), r'MaskedViT.*\(scope evil\), which is no registered'),
    (dict(act_cfg=dict(type='mmengine.load')), "builds 'mmengine.load'"),
    (dict(stem=dict(type='mmeffmae.PatchifyStem', conv_type='this')), "'this'"),
    (dict(patch_cfg=dict(another_type=['evil.f'])), "builds 'evil.f'"),
    (dict(type='mmeffmae.NoSuchViT'), r'NoSuchViT.*no registered class'),
    (dict(type='mmpretrain.SwinTransformer', img_size=None),
     r'cannot be built'),
    (dict(pre_norm=True), r'has weights that the stock'),
])
def test_what_does_not_fit_is_refused(make_checkpoint, part, message):
    path, _ = make_checkpoint(
        **{name: part[name] for name in ('pre_norm',) if name in part})
    content = torch.load(path, weights_only=True)
    cfg = Config.fromstring(content['meta']['cfg'], '.py')
    prefix = part.pop('prefix', 'backbone.')
    if part.pop('model', None):
        cfg = Config()
    else:
        cfg.model.backbone.arch.embed_dims = part.pop('embed_dims', 32)
        cfg.model.backbone.update(part)
    content['meta']['cfg'] = cfg.pretty_text
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=f'(?s){message}'):
        export_backbone(path, prefix=prefix)
    assert not list(path.parent.glob('*_backbone.pth'))


def test_an_encoder_exports_itself_through_two_methods(
        make_checkpoint, monkeypatch):
    path, model = make_checkpoint()
    cls = type(model.backbone)

    def refuse(self):
        raise ValueError('its stem has no stock equivalent')

    monkeypatch.setattr(cls, 'exportable_as', refuse, raising=False)
    with pytest.raises(CheckpointError, match='MaskedViT cannot be exported '
                       'to a stock backbone: its stem has no stock'):
        export_backbone(path)

    stock = dict(
        type='mmpretrain.VisionTransformer',
        arch=model.backbone.arch_settings,
        img_size=32,
        patch_size=8)
    monkeypatch.setattr(cls, 'exportable_as', lambda self: stock)
    monkeypatch.setattr(
        cls, 'export_state_dict', cls.state_dict, raising=False)
    assert export_backbone(path).report.complete
    # Weights that fit but compute something else are found out.
    monkeypatch.setattr(
        cls, 'export_state_dict', lambda self:
        {k: 1.1 * v for k, v in self.state_dict().items()})
    with pytest.raises(CheckpointError, match='differ by .* the largest'):
        export_backbone(path)


def _run_tool(monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, arguments)])
    return runpy.run_path(str(TOOL))['main']()


def test_the_tool_prints_report_and_snippets(
        make_checkpoint, tmp_path, monkeypatch, capsys):
    path, _ = make_checkpoint()
    out = tmp_path / 'out' / 'vit.pth'
    assert _run_tool(monkeypatch, path, '--out', out) == 0
    printed = capsys.readouterr().out
    assert 'coverage   100.0 % of 54 required keys' in printed
    assert f'exported to {out}' in printed
    for name in 'mmpretrain', 'mmdet', 'mmseg':
        assert f'# {name}: ' in printed
    assert printed.count(f"checkpoint='{out}'") == 3


def test_the_tool_prints_errors_without_a_traceback(
        tmp_path, monkeypatch, capsys):
    assert _run_tool(monkeypatch, tmp_path / 'no.pth') == 1
    assert capsys.readouterr().err.startswith('error: checkpoint ')
