# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import hashlib
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmeffmae.datasets import mini_scenes
from mmeffmae.datasets.mini_drawing import STUFF, THINGS
from mmeffmae.datasets.mini_scenes import (
    MARKER,
    MiniSceneSettings,
    draw_crowd,
    draw_image,
    write_mini_scenes,
)

SMALL = MiniSceneSettings(
    image_size=32, train_images=16, val_images=8, scene_size=64,
    train_scenes=6, val_scenes=2)
MAKE = Path(__file__).parents[2] / 'tools/make_mini_scenes.py'


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'mini'
    assert write_mini_scenes(str(root), SMALL)
    return root


def pixels(path):
    return np.asarray(Image.open(path))


def contents(root):
    return {str(p.relative_to(root)): p.read_bytes()
            for p in sorted(root.rglob('*')) if p.is_file()}


def test_pixels_are_the_recipe_s():
    # Other pixels mean another VERSION, or committed figures lie.
    digest = hashlib.sha256()
    for index in range(4):
        digest.update(draw_image(MiniSceneSettings(), 0, index).image.tobytes())
        scene = draw_crowd(MiniSceneSettings(), 1, index)
        digest.update(scene.image.tobytes() + scene.semantic.tobytes())
    assert (mini_scenes.VERSION, digest.hexdigest()[:16]) == (
        1, '0497f787ae63cbe4')


def test_two_writings_are_equal_to_the_byte(root, tmp_path):
    write_mini_scenes(str(tmp_path / 'again'), SMALL)
    assert contents(tmp_path / 'again') == contents(root)


def test_images_differ_between_indices_splits_and_seeds():
    other = MiniSceneSettings(seed=1)
    images = [draw_image(MiniSceneSettings(), 0, 0), draw_image(other, 0, 0),
              draw_image(MiniSceneSettings(), 0, 8),
              draw_image(MiniSceneSettings(), 1, 0)]
    assert {i.labels[0] for i in images} == {0}
    assert len({i.image.tobytes() for i in images}) == 4


def test_image_folder_is_balanced(root):
    for split, count in (('train', 2), ('val', 1)):
        folders = sorted(p.name for p in (root / 'images' / split).iterdir())
        assert folders == sorted(THINGS)
        for name in folders:
            files = list((root / 'images' / split / name).iterdir())
            assert len(files) == count
            assert pixels(files[0]).shape == (32, 32, 3)


@pytest.mark.parametrize('split, count', [('train', 6), ('val', 2)])
def test_coco_instances_agree_with_the_stuff_maps(root, split, count):
    coco_module = pytest.importorskip('pycocotools.coco')
    coco = coco_module.COCO(root / f'coco/annotations/instances_{split}.json')
    assert len(coco.getImgIds()) == count
    names = {c['id']: c['name'] for c in coco.loadCats(coco.getCatIds())}
    assert list(names.values()) == list(THINGS)
    for image in coco.loadImgs(coco.getImgIds()):
        assert pixels(root / f'coco/{split}' / image['file_name']).shape == (
            image['height'], image['width'], 3)
        stuff = pixels(root / f'coco/stuffthingmaps/{split}'
                       / image['file_name'])
        rest = stuff.astype(int)
        anns = coco.loadAnns(coco.getAnnIds(image['id']))
        assert anns
        for ann in anns:
            mask = coco.annToMask(ann).astype(bool)
            assert mask.sum() == ann['area'] > 0
            # Things have the semantic ids 0..7, in the categories' order.
            assert (rest[mask] == ann['category_id'] - 1).all()
            rest[mask] = -1
            rows, columns = np.nonzero(mask)
            x, y, w, h = ann['bbox']
            assert (x, y, x + w, y + h) == (
                columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        # No thing pixel without an instance; the rest is stuff or the border.
        stuff_ids = set(range(len(THINGS), len(THINGS) + len(STUFF)))
        assert set(np.unique(rest)) <= stuff_ids | {-1, 255}
        assert set(np.unique(rest)) & stuff_ids


def test_ade_layout_counts_from_one_and_keeps_zero_for_the_border(root):
    seen = set()
    for ade, coco, count in (('training', 'train', 6), ('validation', 'val', 2)):
        maps = sorted((root / f'ade/annotations/{ade}').glob('*.png'))
        assert len(maps) == count
        for path in maps:
            semantic = pixels(path)
            image = pixels(root / f'ade/images/{ade}' / f'{path.stem}.jpg')
            assert image.shape == (*semantic.shape, 3)
            # mmseg's reduce_zero_label: 0 -> 255, the others one less.
            reduced = np.where(semantic == 0, 255, semantic.astype(int) - 1)
            stuff = pixels(root / f'coco/stuffthingmaps/{coco}' / path.name)
            assert (reduced == stuff).all()
            seen |= set(np.unique(semantic))
    assert {0} < seen <= set(range(len(THINGS) + len(STUFF) + 1))


def test_every_object_stays_visible_and_apart():
    shares = []
    for index in range(30):
        scene = draw_crowd(MiniSceneSettings(), 0, index)
        assert scene.masks.sum(0).max() == 1  # disjoint
        shares.append(min(m.sum() for m in scene.masks))
    assert min(shares) > 30  # of 128 x 128 pixels


def test_second_call_leaves_a_complete_folder_alone(root):
    times = {p: p.stat().st_mtime_ns for p in root.rglob('*')}
    assert not write_mini_scenes(str(root), SMALL)
    assert times == {p: p.stat().st_mtime_ns for p in root.rglob('*')}


def test_harmed_or_other_mini_scenes_are_written_anew(tmp_path, root):
    target = tmp_path / 'mini'
    write_mini_scenes(str(target), SMALL)
    next((target / 'images/val').rglob('*.png')).unlink()
    assert write_mini_scenes(str(target), SMALL)
    assert contents(target) == contents(root)
    marker = json.loads((target / MARKER).read_text())
    (target / MARKER).write_text(json.dumps(dict(marker, version=0)))
    assert write_mini_scenes(str(target), SMALL)
    assert contents(target) == contents(root)


def test_a_folder_of_something_else_is_refused_untouched(tmp_path):
    (tmp_path / 'photo.jpg').write_bytes(b'mine')
    with pytest.raises(FileExistsError, match='holds no mini scenes'):
        write_mini_scenes(str(tmp_path), SMALL)
    assert contents(tmp_path) == {'photo.jpg': b'mine'}


def test_interrupted_writing_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(mini_scenes, '_write_scenes', fail)
    with pytest.raises(KeyboardInterrupt):
        write_mini_scenes(str(tmp_path / 'mini'), SMALL)
    assert list(tmp_path.iterdir()) == []


def test_settings_too_small():
    with pytest.raises(ValueError, match='image_size 8 is too small .* 32'):
        MiniSceneSettings(image_size=8)


def test_command_line(tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location('make_mini_scenes', MAKE)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.setattr(mini_scenes.write_mini_scenes, '__defaults__', (SMALL,))
    out = str(tmp_path / 'deep/mini')
    monkeypatch.setattr(sys, 'argv', ['make_mini_scenes.py', '--out', out])
    tool.main()
    tool.main()
    assert capsys.readouterr().out.splitlines() == [
        f'{out}: written', f'{out}: complete already, left as it is']


def test_mmdet_reads_instances_and_semantic_maps(root):
    pytest.importorskip('mmdet')
    from mmdet.datasets import CocoDataset
    from mmdet.utils import register_all_modules
    from mmengine.registry import DefaultScope
    register_all_modules(init_default_scope=False)
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = CocoDataset(
            data_root=str(root / 'coco'),
            ann_file='annotations/instances_train.json',
            data_prefix=dict(img='train/', seg='stuffthingmaps/train/'),
            metainfo=dict(classes=THINGS),
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='LoadAnnotations', with_bbox=True, with_mask=True,
                     with_seg=True)
            ])
        sample = dataset[0]
    assert len(dataset) == SMALL.train_scenes
    masks = sample['gt_masks'].masks.astype(bool)
    assert len(masks) == len(sample['gt_bboxes_labels']) > 0
    for mask, label in zip(masks, sample['gt_bboxes_labels']):
        assert (sample['gt_seg_map'][mask] == label).all()


def test_mmseg_reads_the_ade_layout(root):
    pytest.importorskip('mmseg')
    from mmengine.registry import DefaultScope
    from mmseg.datasets import BaseSegDataset
    with DefaultScope.overwrite_default_scope('mmseg'):
        dataset = BaseSegDataset(
            data_root=str(root / 'ade'),
            data_prefix=dict(img_path='images/validation',
                             seg_map_path='annotations/validation'),
            metainfo=dict(classes=THINGS + STUFF),
            reduce_zero_label=True,
            pipeline=[dict(type='LoadImageFromFile'),
                      dict(type='LoadAnnotations')])
        sample = dataset[1]
    stuff = pixels(root / 'coco/stuffthingmaps/val/00001.png')
    assert (sample['gt_seg_map'] == stuff).all()
