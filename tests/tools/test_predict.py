# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""tools/predict.py: classify, reconstruct and embed a folder."""
import importlib.util
import json
import runpy
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image

from mmeffmae.inference import (
    loader_settings,
    near_duplicates,
    nearest_neighbours,
)
from mmeffmae.inference.predictor import _pipeline
from mmeffmae.registry import MODELS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('tool', ROOT / 'tools/predict.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(tool, tmp_path, monkeypatch, image_folder):
    """A function that runs the tool on a config, and gives the output folder."""
    photos = tmp_path / 'photos'
    shutil.copytree(image_folder, photos)

    def function(cfg, *arguments):
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            model = MODELS.build(cfg.model)
        torch.save(dict(state_dict=model.state_dict()), tmp_path / 'weights.pth')
        cfg.dump(tmp_path / 'config.py')
        monkeypatch.setattr('sys.argv', [
            'predict.py', str(tmp_path / 'config.py'), str(tmp_path / 'weights.pth'),
            str(photos), '--out', str(tmp_path / 'out'), *arguments])
        tool.main()
        return tmp_path / 'out'

    function.photos = photos
    return function


def test_reconstructs_every_image(run, tiny_cfg):
    out = run(tiny_cfg())
    picture = np.asarray(Image.open(out / 'even/00.png.png'))
    assert picture.shape == (32 + 4, 3 * (32 + 2) + 2, 3)
    assert len(list(out.rglob('*.png'))) == 12


def test_pictures_of_five_bands(run, tiny_cfg, tmp_path, monkeypatch):
    shutil.rmtree(run.photos)
    run.photos.mkdir()
    np.save(run.photos / 'a.npy', np.random.default_rng(0).random((40, 40, 5)))
    cfg = tiny_cfg({
        'model.backbone.in_channels': 5,
        'data_preprocessor': dict(
            _delete_=True, type='mmeffmae.BandDataPreprocessor', mean=[.5] * 5,
            std=[.3] * 5, to_rgb=False)})
    cfg.train_dataloader.dataset.pipeline[1] = dict(
        type='mmeffmae.LoadBands', bands=5)
    cfg.model.data_preprocessor = cfg.data_preprocessor
    out = run(cfg)
    assert (out / 'a.npy.png').is_file()
    monkeypatch.setattr('sys.argv', [
        'visualize_reconstruction.py', str(tmp_path / 'config.py'),
        str(tmp_path / 'weights.pth'), str(run.photos / 'a.npy'), '--out',
        str(tmp_path / 'b.png')])
    runpy.run_path(
        str(ROOT / 'tools/analysis/visualize_reconstruction.py'), run_name='__main__')
    assert (tmp_path / 'b.png').read_bytes() == (out / 'a.npy.png').read_bytes()


def test_embeds_finds_copies_and_skips_what_is_broken(run, tiny_cfg, capsys):
    shutil.copy(run.photos / 'even/02.png', run.photos / 'odd/copy.png')
    (run.photos / 'broken.jpg').write_bytes(b'not an image')
    out = run(tiny_cfg(), '--task', 'embed', '--neighbours', '3')
    stored = np.load(out / 'embeddings.npz')
    assert stored['features'].shape == (13, 32)
    assert stored['features'].dtype == np.float32
    names = stored['files'].tolist()
    first, second = (str(run.photos / n) for n in ('even/02.png', 'odd/copy.png'))
    neighbours = json.loads((out / 'neighbours.json').read_text())
    assert neighbours[first][0] == [second, 1.0]
    assert all(len(row) == 3 and name not in [n for n, _ in row]
               for name, row in neighbours.items())
    duplicates = json.loads((out / 'near_duplicates.json').read_text())
    assert [first, second, 1.0] in duplicates
    assert len(names) == 13 and 'broken.jpg' in capsys.readouterr().err


def test_classifies_every_image(run, tiny_cfg):
    cfg = tiny_cfg()
    cfg.pop('data_preprocessor')
    cfg.model = dict(
        type='ImageClassifier',
        data_preprocessor=dict(type='ClsDataPreprocessor'),
        backbone=cfg.model.backbone,
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=2, in_channels=32))
    cfg.test_dataloader = dict(dataset=dict(
        type='mmpretrain.CustomDataset', metainfo=dict(classes=('cat', 'dog')),
        pipeline=[dict(type='LoadImageFromFile'),
                  dict(type='Resize', scale=32), dict(type='PackInputs')]))
    out = run(cfg)
    found = json.loads((out / 'predictions.json').read_text())
    assert len(found) == 12
    one = found[str(run.photos / 'even/00.png')]
    assert sorted(one['classes']) == ['cat', 'dog']
    assert one['scores'][0] >= one['scores'][1] and sum(one['scores']) == \
        pytest.approx(1)
    assert (out / 'odd/01.png.png').is_file()


def test_images_are_read_as_the_config_reads_them(tmp_path):
    """All of 16 bits, or in the order and type that the model learned."""
    image = np.full((8, 8, 3), 5000, 'u2')
    cv2.imwrite(str(tmp_path / 'a.png'), image)
    for load, value in (
            (dict(type='mmeffmae.LoadBands', bands=3), 5000.),
            (dict(type='LoadImageFromFile', to_float32=True, color_type='unchanged'),
             5000.),
            (dict(type='LoadImageFromFile'), 5000 // 256)):
        pipeline = _pipeline([load, dict(type='mmpretrain.PackInputs')])
        assert (pipeline(dict(img_path=str(tmp_path / 'a.png')))['inputs']
                == value).all()


def test_bands_are_found_inside_a_wrapper():
    bands = dict(type='mmeffmae.LoadBands', bands=4)
    wrapped = dict(type='RepeatDataset', dataset=dict(pipeline=[
        dict(type='mmeffmae.SeedSample'), bands]))
    config = Config(dict(train_dataloader=dict(dataset=wrapped)))
    assert loader_settings(config) == bands


def test_the_wrong_task_and_folder_are_named(run, tiny_cfg, tmp_path):
    with pytest.raises(SystemExit, match='--task detect.*reconstruct'):
        run(tiny_cfg(), '--task', 'detect')
    shutil.rmtree(run.photos)
    with pytest.raises(SystemExit, match='photos.*does not exist'):
        run(tiny_cfg())


def test_neighbours_and_duplicates_of_plane_vectors():
    """Mean (1, 0) is taken away; angles of what is left decide."""
    features = torch.tensor([[2., 1.], [2., -1.], [0., 1.], [0., -1.], [3., 2.]])
    features[4] = features[0] + torch.tensor([1., 1.])
    features -= features.mean(0) - torch.tensor([1., 0.])
    index, cosine = nearest_neighbours(features, k=1)
    assert index[0].item() == 4 and index[4].item() == 0
    assert cosine[0].item() > .98
    assert [pair[:2] for pair in near_duplicates(features, .98)] == [(0, 4)]
    same = torch.ones(2, 3)  # too few for a mean
    assert near_duplicates(same, .98) == [(0, 1, pytest.approx(1))]
