# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import json
import os
import runpy
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

coco_mask = pytest.importorskip('pycocotools.mask')
TOOL = Path(__file__).parents[3] / 'tools/data/camvid_instances.py'
make_split = runpy.run_path(str(TOOL))['make_split']


def write(root, class_map):
    for kind, suffix in (('images', 'jpg'), ('annotations', 'png')):
        (root / kind / 'train').mkdir(parents=True)
        cv2.imwrite(str(root / kind / 'train' / f'0.{suffix}'), class_map)


def test_instances_are_the_large_components_of_countable_classes(tmp_path):
    class_map = np.full((40, 60), 3, np.uint8)  # road
    class_map[0:10, 0:10] = 8  # a car of 100 pixels,
    class_map[10:20, 10:22] = 8  # one that touches its corner only,
    class_map[30:39, 0:11] = 8  # and one of 99.
    class_map[0:10, 40:60] = 9  # two pedestrians side by side
    class_map[5:25, 22:29] = 10  # a bicyclist beside the second car
    class_map[30:40, 30:60] = 11  # unlabelled
    write(tmp_path, class_map)
    content = make_split(tmp_path, 'train')

    assert content['images'] == [
        dict(id=0, file_name='0.jpg', height=40, width=60)]
    assert [c['name'] for c in content['categories']] == [
        'sign symbol', 'car', 'pedestrian', 'bicyclist']
    found = [(a['category_id'], a['bbox'], a['area'])
             for a in content['annotations']]
    assert found == [(2, [0, 0, 10, 10], 100), (2, [10, 10, 12, 10], 120),
                     (3, [40, 0, 20, 10], 200), (4, [22, 5, 7, 20], 140)]
    assert [a['id'] for a in content['annotations']] == [1, 2, 3, 4]
    decoded = coco_mask.decode(content['annotations'][1]['segmentation'])
    assert decoded.sum() == decoded[10:20, 10:22].sum() == 120


def test_what_is_missing_is_named(tmp_path):
    run = subprocess.run([sys.executable, TOOL, tmp_path],
                         capture_output=True, text=True)
    assert run.returncode == 1
    assert f'{tmp_path}/annotations/train holds no class maps' in run.stderr


def test_counts_of_the_real_maps():
    root = Path(os.environ.get('MMEFFMAE_DATA_ROOT', 'unset')) / 'camvid'
    if not (root / 'annotations').is_dir():
        pytest.skip('MMEFFMAE_DATA_ROOT holds no camvid')
    content = json.loads(json.dumps(make_split(root, 'train')))
    counts = Counter(a['category_id'] for a in content['annotations'])
    assert len(content['images']) == 367
    assert counts == {1: 1278, 2: 1116, 3: 753, 4: 167}
