# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Every dataset base file builds its data sets and one batch."""
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner
from PIL import Image

from mmeffmae.datasets.mini_scenes import MiniSceneSettings, write_mini_scenes
from mmeffmae.registry import DATASETS

CONFIGS = Path(__file__).parents[2] / 'configs/_base_/datasets'
DATA_ROOT = os.environ.get('MMEFFMAE_DATA_ROOT', '')
needs_photographs = pytest.mark.skipif(
    not Path(DATA_ROOT, 'imagenette112').is_dir(),
    reason='MMEFFMAE_DATA_ROOT does not hold imagenette112')


@pytest.fixture(autouse=True)
def default_scope():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


def first_batch(config, batch_size=4):
    """Batch as the model sees it, from the config's own loader."""
    loader = config.train_dataloader.copy()
    loader.update(batch_size=batch_size, num_workers=0,
                  persistent_workers=False)
    batch = next(iter(Runner.build_dataloader(loader, seed=0)))
    return MODELS.build(config.data_preprocessor)(batch, training=True)


def check_batch(config, size):
    inputs = first_batch(config)['inputs']
    images = inputs[0] if isinstance(inputs, (list, tuple)) else inputs
    assert images.shape == (4, 3, size, size)
    assert torch.isfinite(images).all() and images.abs().max() < 3
    assert images.std() > 0.1
    assert config.train_dataloader.dataset.pipeline[0].type == (
        'mmeffmae.SeedSample')


def check_monitor(config, bank, query, size, classes):
    hook, = config.custom_hooks
    assert hook.type == 'mmeffmae.KNNMonitorHook'
    paths = []
    for part, count in ((hook.bank, bank), (hook.query, query)):
        dataset = DATASETS.build(part)
        assert len(dataset) == count
        assert len(dataset.metainfo['classes']) == classes
        sample = dataset[count - 1]
        assert sample['inputs'].shape == (3, size, size)
        assert sample['data_samples'].gt_label.item() == classes - 1
        paths.append({dataset.get_data_info(i)['img_path']
                      for i in range(count)})
    assert paths[0].isdisjoint(paths[1])
    return paths


@pytest.mark.parametrize('name, subfolder', [
    ('imagenet_bs512_mae.py', 'train/n01440764'), ('folder.py', 'any/where')])
def test_unlabelled_folders(tmp_path, name, subfolder):
    folder = tmp_path / subfolder
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(4):
        pixels = rng.integers(0, 256, (60, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f'{i}.JPEG')
    config = Config.fromfile(CONFIGS / name)
    # The one option that a user needs.
    config.merge_from_dict(
        {'train_dataloader.dataset.data_root': str(tmp_path)})
    check_batch(config, 224)


def test_mini(tmp_path, monkeypatch):
    settings = MiniSceneSettings(train_images=24, val_images=16,
                                 train_scenes=1, val_scenes=1)
    write_mini_scenes(str(tmp_path / 'data/mini'), settings)
    config = Config.fromfile(CONFIGS / 'mini.py')
    monkeypatch.chdir(tmp_path)
    check_batch(config, settings.image_size)
    check_monitor(config, 24, 16, settings.image_size, classes=8)


@needs_photographs
@pytest.mark.parametrize('name, size', [
    ('imagenette112.py', 112), ('imagenette_64.py', 64)])
def test_imagenette(name, size):
    config = Config.fromfile(CONFIGS / name)
    check_batch(config, size)
    bank, query = check_monitor(config, 8469, 1000, size, classes=10)
    dataset = DATASETS.build(config.train_dataloader.dataset)
    assert len(dataset) == 8469
    assert all('/train/' in path for path in query | bank)


@needs_photographs
def test_imagenette_on_the_device():
    config = Config.fromfile(CONFIGS / 'imagenette112_device.py')
    loader = config.train_dataloader
    loader.dataset.dataset.indices = 12  # not all of them, for a test
    loader.update(batch_size=4)
    batch = next(iter(Runner.build_dataloader(loader, seed=0)))
    images = MODELS.build(config.data_preprocessor)(batch, training=True)['inputs']
    assert images.shape == (4, 3, 112, 112) and images.abs().max() < 3
    assert images.std() > 0.1
    assert config.custom_hooks == Config.fromfile(
        CONFIGS / 'imagenette112.py').custom_hooks


@pytest.mark.parametrize('name', ['imagenette112.py', 'imagenette_64.py'])
def test_imagenette_is_looked_for_in_data_by_default(name, monkeypatch):
    monkeypatch.delenv('MMEFFMAE_DATA_ROOT', raising=False)
    config = Config.fromfile(CONFIGS / name)
    assert config.train_dataloader.dataset.data_root == 'data/imagenette112/'
    assert config.custom_hooks[0].query.data_root == 'data/imagenette112/'
