# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Nothing here depends on how fast the machine is."""
import json
import runpy
import sys
from pathlib import Path

import torch
from PIL import Image

from mmeffmae.benchmarks.data_speed import store_at
from mmeffmae.evaluation.peaks import peak_bandwidth, peak_flops

ROOT = Path(__file__).parents[2]


def test_tool_times_every_way(image_folder, tmp_path, monkeypatch, capsys):
    name = str(ROOT / 'tools/benchmarks/data_speed.py')
    shard = tmp_path / 'data.json'
    monkeypatch.setattr(sys, 'argv', [
        name, str(image_folder), '--size', '16', '--stored-side', '60', '--number',
        '6', '--batch-size', '3', '--rounds', '2', '--json', str(shard)])
    runpy.run_path(name, run_name='__main__')
    result = json.loads(shard.read_text())
    ways = {way['name']: way for way in result['ways']}
    assert {'load + crop, cv2', 'load + crop, pillow', 'fused load and crop',
            'fused load and crop, tar', 'DeviceImages on cpu'} <= set(ways)
    assert ways['load + crop, cv2']['ratio']['median'] == 1
    assert all(way['images_per_second']['min'] > 0 for way in result['ways'])
    assert result['images'] == image_folder.name and result['stored_side'] == 60
    assert '| fused load and crop |' in capsys.readouterr().out


def test_photographs_are_stored_at_a_size(image_folder, tmp_path):
    store_at(image_folder, tmp_path / 'stored', 100, 5)
    files = sorted((tmp_path / 'stored').iterdir())
    assert len(files) == 5
    assert all(Image.open(file).size == (100, 100) for file in files)


def test_peaks_are_rates():
    device = torch.device('cpu')
    assert 1e8 < peak_flops(device, repeats=1) < 1e14
    assert 1e8 < peak_bandwidth(device, repeats=1) < 1e13
