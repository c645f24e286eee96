# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""UM-MAE's downstream configs, one shrunken step each."""
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.structures import DataSample

from mmeffmae.checkpoint import CheckpointError
from mmeffmae.evaluation.building import load_weights

FOLDER = Path(__file__).parents[2] / 'configs/um_mae/benchmarks'
CLASSIFIERS = sorted(FOLDER.glob('um-mae-*_in1k-*.py')) + sorted(
    FOLDER.glob('um-mae-*_in1k.py'))
DETECTORS = sorted(FOLDER.glob('../../gfl/*_coco.py')) + [
    FOLDER / 'htc_um-swin-32x8-p8_quick.py']
TINY = {
    'mmeffmae.UMSwin': dict(embed_dims=8, depths=[1, 1, 1, 1],
                            num_heads=[1, 1, 2, 2], position_dims=4),
    'mmeffmae.UMPVT': dict(embed_dims=[8, 16, 32, 64], depths=[1, 1, 1, 1],
                           num_heads=[1, 1, 2, 2], mlp_ratios=[2, 2, 2, 2],
                           sr_ratios=[8, 4, 2, 1]),
    'mmeffmae.MaskedViT': dict(embed_dims=64, num_layers=2, num_heads=2,
                               feedforward_channels=64)}


def read(path):
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.update(arch=TINY[cfg.model.backbone.type], init_cfg=None)
    return cfg


@pytest.mark.parametrize('path', CLASSIFIERS, ids=lambda p: p.stem)
def test_classifier(path):
    cfg = read(path)
    cfg.model.head.update(in_channels=64, num_classes=4)
    for part in cfg.model.neck or ():
        if 'input_features' in part:
            part.input_features = 64
    cfg.model.train_cfg = None
    model = MODELS.build(cfg.model).train()
    images = torch.randn(4, 3, *model.backbone.img_size)
    samples = [DataSample().set_gt_label(i) for i in range(4)]
    model.loss(images, samples)['loss'].backward()
    learns = {n for n, p in model.named_parameters() if p.grad is not None}
    of_encoder = {n for n in learns if n.startswith('backbone.')}
    assert model.head.fc.weight.grad is not None
    if 'linear' in path.stem:
        assert not of_encoder
        assert not any(m.training for m in model.backbone.modules())
        return
    assert learns == {n for n, p in model.named_parameters()}
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    groups = {id(p): g for g in wrapper.param_groups for p in g['params']}
    names = dict(model.named_parameters())
    decay = cfg.optim_wrapper.paramwise_cfg.layer_decay_rate
    first = groups[id(names['backbone.patch_embed.projection.weight'])]
    depth = model.backbone.num_layers
    assert first['lr'] == pytest.approx(2e-3 * decay**(depth + 1))
    assert groups[id(model.head.fc.weight)]['lr'] == pytest.approx(2e-3)
    for name, parameter in names.items():
        spared = parameter.ndim == 1 or 'pos_embed' in name or 'cls_token' in name
        assert (groups[id(parameter)]['weight_decay'] == 0) == spared, name
    batch = 8 * cfg.train_dataloader.batch_size * wrapper._accumulative_counts
    assert batch == 1024


@pytest.mark.parametrize('path', DETECTORS, ids=lambda p: p.stem)
def test_detector(path):
    pytest.importorskip('mmdet')
    from mmdet.testing import demo_mm_inputs
    cfg = read(path)
    widths = TINY[cfg.model.backbone.type]['embed_dims']
    widths = widths if isinstance(widths, list) else [widths << i for i in range(4)]
    necks = cfg.model.neck if isinstance(cfg.model.neck, list) else [cfg.model.neck]
    necks[0].in_channels = widths[1:]
    cfg.model.data_preprocessor.batch_augments = None
    if 'train_cfg' in cfg.model and 'rcnn' in cfg.model.train_cfg:
        for stage in cfg.model.train_cfg.rcnn:
            stage.sampler.num = 16
        cfg.model.train_cfg.rpn_proposal.max_per_img = 16
    for layer in necks:
        if layer.get('norm_cfg', {}).get('type') == 'SyncBN':
            layer.norm_cfg.type = 'BN'
    model = MODELS.build(cfg.model)
    model.init_weights()
    inputs = demo_mm_inputs(
        2, [[3, 64, 64], [3, 48, 64]], with_mask=True, with_semantic=True,
        num_classes=8)
    data = model.data_preprocessor(inputs, True)
    loss, _ = model.parse_losses(model(**data, mode='loss'))
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_small_classifier_learns_from_scratch():
    cfg = Config.fromfile(
        FOLDER / 'um-mae-finetune_swin-32x8-p8_1xb64-coslr-6e_imagenette64.py')
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.init_cfg = None
    model = MODELS.build(cfg.model).train()
    samples = [DataSample().set_gt_label(i) for i in (0, 9)]
    model.loss(torch.randn(2, 3, 64, 64), samples)['loss'].backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize('name', [
    'gfl/gfl_um-swin-tiny_8xb2-amp-lsj-25e_coco',
    'gfl/gfl_um-pvt-small_8xb2-amp-lsj-25e_coco',
    'htcpp/htcpp_um-swin-large_16xb1-amp-3x_coco',
    'upernet/upernet_um-swin-tiny_8xb2-amp-160k_ade20k-512x512'])
def test_starts_from_a_fine_tuned_classifier(name, tmp_path):
    cfg = read(FOLDER / f'../../{name}.py')
    backbone = dict(cfg.model.backbone, init_cfg=None)
    classifier = MODELS.build(dict(
        backbone, out_indices=(3, ), out_type='avg_featmap'))
    weights = classifier.state_dict()
    torch.save(dict(state_dict={f'backbone.{k}': v for k, v in weights.items()}),
               tmp_path / 'classifier.pth')
    encoder = MODELS.build(backbone)
    _, report = load_weights(encoder, tmp_path / 'classifier.pth', 'backbone.')
    assert report.coverage == 100
    assert all(torch.equal(value, weights[key]) for key, value in
               encoder.state_dict().items() if not key.startswith('norm'))
    # What has neither norm is no classifier, but a file that lost a part.
    kept = {f'backbone.{k}': v for k, v in weights.items() if 'fc_norm' not in k}
    torch.save(dict(state_dict=kept), tmp_path / 'damaged.pth')
    with pytest.raises(CheckpointError, match='norm3'):
        load_weights(encoder, tmp_path / 'damaged.pth', 'backbone.')


def test_segmentor():
    pytest.importorskip('mmseg')
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample
    cfg = read(FOLDER / 'upernet_um-swin-32x8-p8_quick.py')
    cfg.model.decode_head.in_channels = [16, 32, 64]
    model = MODELS.build(cfg.model)
    sample = SegDataSample(gt_sem_seg=PixelData(data=torch.ones(1, 64, 64).long()))
    losses = model.loss(torch.randn(2, 3, 64, 64), [sample, sample])
    loss, _ = model.parse_losses(losses)
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())
