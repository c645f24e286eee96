# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Every detector and segmentor config: one training step, then prediction."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import MODELS
from PIL import Image

from mmeffmae.checkpoint import register_safe_loader
from mmeffmae.checkpoint.export import export_backbone
from mmeffmae.datasets.mini_drawing import STUFF, THINGS
from mmeffmae.datasets.mini_scenes import MiniSceneSettings, write_mini_scenes

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(
    path for folder in ('htcpp', 'upernet')
    for path in (ROOT / 'configs' / folder).glob('*.py'))
WIDTH, SIDE = 32, 64
ARCH = dict(embed_dims=WIDTH, num_layers=6, num_heads=2,
            feedforward_channels=WIDTH)


@pytest.fixture(scope='module')
def backbone(tmp_path_factory):
    """An exported backbone, pre-trained at half of the detectors' size."""
    folder = tmp_path_factory.mktemp('backbone')
    cfg = Config(dict(
        default_scope='mmpretrain',
        model=dict(
            type='mmeffmae.MaskedAutoencoder',
            backbone=dict(type='mmeffmae.MaskedViT', arch=ARCH,
                          img_size=SIDE // 2, patch_size=8),
            neck=dict(type='mmeffmae.MaskedDecoder', decoder_embed_dim=16,
                      decoder_depth=1, decoder_num_heads=2),
            head=dict(type='mmeffmae.PixelHead'),
            masking=dict(type='mmeffmae.RandomMasking'),
            data_preprocessor=dict(
                type='mmpretrain.SelfSupDataPreprocessor', to_rgb=True,
                mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]))))
    model = MODELS.build(cfg.model)
    model.init_weights()
    torch.save(dict(state_dict=model.state_dict(),
                    meta=dict(cfg=cfg.pretty_text)), folder / 'mae.pth')
    return export_backbone(folder / 'mae.pth').path


@pytest.fixture(scope='module')
def mini(tmp_path_factory):
    """Mini scenes of 64 px, two a split."""
    root = tmp_path_factory.mktemp('data') / 'mini'
    write_mini_scenes(str(root), MiniSceneSettings(
        train_images=1, val_images=1, scene_size=SIDE, train_scenes=2,
        val_scenes=2))
    return root


@pytest.fixture(scope='module')
def camvid(tmp_path_factory):
    """The first two images of each split of CamVid, with instances."""
    real = Path(os.environ.get('MMEFFMAE_DATA_ROOT', 'unset')) / 'camvid'
    if not (real / 'images').is_dir():
        pytest.skip('MMEFFMAE_DATA_ROOT holds no camvid')
    root = tmp_path_factory.mktemp('data') / 'camvid'
    for split in ('train', 'val', 'test'):
        for kind in ('images', 'annotations'):
            (root / kind / split).mkdir(parents=True)
            for file in sorted((real / kind / split).iterdir())[:2]:
                shutil.copy(file, root / kind / split)
    subprocess.run(
        [sys.executable, ROOT / 'tools/data/camvid_instances.py', root],
        check=True)
    return root


@pytest.fixture
def shrunk(request, tmp_path, backbone):
    """A function that reads a config and makes it tiny, on tiny data."""

    def function(path):
        cfg = Config.fromfile(path)
        name = 'camvid' if 'camvid' in path.stem else 'mini'
        root = request.getfixturevalue(name)
        for loader in (cfg.train_dataloader, cfg.val_dataloader):
            dataset = loader.dataset
            old, dataset.data_root = dataset.data_root, str(root / Path(
                dataset.data_root).name if name == 'mini' else root)
            loader.update(num_workers=0, persistent_workers=False)
            dataset.indices = 2
        if 'ann_file' in cfg.val_evaluator:
            cfg.val_evaluator.ann_file = cfg.val_evaluator.ann_file.replace(
                old.rstrip('/'), dataset.data_root)
        cfg.train_dataloader.batch_size = 2
        cfg.train_cfg.max_epochs = 1
        cfg.param_scheduler = []
        model = cfg.model
        model.backbone.update(arch=ARCH, img_size=SIDE)
        model.backbone.init_cfg.checkpoint = str(backbone)
        for part in model.neck if isinstance(model.neck, list) else [model.neck]:
            part.update({'embed_dim': WIDTH} if 'embed_dim' in part else
                        {'in_channels': [WIDTH] * 4})
        if 'decode_head' in model:
            model.decode_head.in_channels = [WIDTH] * 4
        cfg.work_dir = str(tmp_path)
        return cfg

    return function


class KeepStart(Hook):
    """Keeps the backbone's weights as training begins."""

    def before_train(self, runner):
        self.state = {key: value.clone() for key, value in
                      runner.model.backbone.state_dict().items()}


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_trains_every_parameter_from_the_export_and_predicts(
        path, shrunk, backbone, build_runner):
    register_safe_loader()
    runner = build_runner(shrunk(path))
    reached = set()
    for name, parameter in runner.model.named_parameters():
        parameter.register_post_accumulate_grad_hook(
            lambda p, name=name: reached.add(name)
            if p.grad.isfinite().all() else None)
    start = KeepStart()
    runner.register_hook(start, priority='LOWEST')
    runner.train()

    assert runner.iter == 1
    assert reached == {name for name, p in runner.model.named_parameters()}
    exported = torch.load(backbone, weights_only=True)['state_dict']
    for key, value in start.state.items():
        if key != 'pos_embed':  # resized
            assert torch.equal(value, exported[f'backbone.{key}']), key
    values = runner.message_hub.log_scalars
    names = (['val/coco/bbox_mAP', 'val/coco/segm_mAP']
             if 'htcpp' in path.parts else ['val/mIoU'])
    assert all(0 <= values[name].current() <= 100 for name in names)
    picture = np.asarray(Image.open(
        next(Path(runner.work_dir, 'vis').glob('predictions_iter_*1.png'))))
    height, width = (360, 480) if 'camvid' in path.stem else (SIDE, SIDE)
    assert picture.shape == (2 * height + 2, 2 * width, 3)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_starts_untrained_on_request(path):
    cfg = Config.fromfile(path)
    cfg.merge_from_dict({'model.backbone.init_cfg': None})
    assert MODELS.build(cfg.model.backbone).init_cfg is None


def test_mini_classes_are_those_of_the_scenes():
    base = ROOT / 'configs/_base_/datasets'
    things = Config.fromfile(base / 'mini_instance_semantic.py').metainfo
    everything = Config.fromfile(base / 'mini_semantic.py').metainfo
    assert tuple(things.classes) == THINGS
    assert tuple(everything.classes) == THINGS + STUFF
    assert len(things.palette) == 8
    assert len(everything.palette) == 12
