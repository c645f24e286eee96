# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import base64
import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmeffmae.visualization import save_picture
from mmeffmae.visualization.report import Run, build_report, figures

ROOT = Path(__file__).parents[2]
CONFIG = """
model = dict(type='mmeffmae.MaskedAutoencoder',
             masking=dict(type='mmeffmae.ParallelMasking', num_parts=4))
train_dataloader = dict(batch_size=8, dataset=dict(data_root='data/mini/'))
"""


@pytest.fixture
def run_dir(tmp_path):
    """What a run, the probe and the export leave behind."""
    log = tmp_path / '20260101_000000' / 'vis_data'
    log.mkdir(parents=True)
    (log / 'config.py').write_text(CONFIG)
    lines = [{'monitor/knn_top1': 20.0, 'step': 0}]
    lines += [
        dict(loss=3.0 - step / 10, loss_recon=2.0, time=time, images_per_s=4,
             step=step) for step, time in ((10, 3.0), (20, 5.0), (30, 4.0))
    ]
    (log / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)))
    for step, value in ((10, 0), (30, 200)):
        save_picture(
            np.full((4, 4, 3), value, dtype=np.uint8),
            tmp_path / 'vis' / f'reconstruction_iter_{step:08d}.png')
    values = dict(
        untrained=dict(knn=20.0, linear=40.0),
        trained=dict(knn=31.5, linear=38.0))
    (tmp_path / 'probe.json').write_text(json.dumps(dict(values=values)))
    (tmp_path / 'environment.json').write_text(
        json.dumps(
            dict(
                config='configs/emae/emae_quick.py',
                machine=dict(cpu='A <fast> one', cores=2, gpus=[]),
                seed=0)))
    tensors = {'backbone.a': torch.zeros(1_500_000),
               'neck.b': torch.zeros(20_000), 'head.c': torch.zeros(5)}
    torch.save(dict(state_dict=tensors, meta={}), tmp_path / 'epoch_3.pth')
    # A moved work directory: the pointer names the old place.
    (tmp_path / 'last_checkpoint').write_text('/elsewhere/epoch_3.pth')
    (tmp_path / 'backbone.pth').write_bytes(bytes(2**20))
    return tmp_path


def test_figures_are_those_of_the_files(run_dir):
    assert dict(figures(Run(run_dir))) == {
        'k-nearest neighbours, untrained → pre-trained':
        '20.0 → 31.5 % (+11.5 points)',
        'linear probe, untrained → pre-trained':
        '40.0 → 38.0 % (-2.0 points)',
        'loss, first → last': '2.0000 → 0.0000',
        'loss_recon, first → last': '2.0000 → 2.0000',
        'iterations': '30',
        'training time (iterations × median)': '2 min 0 s',
        'images per second (median)': '4',
        'parameters of the encoder': '1.50 M',
        'parameters of the decoder': '0.02 M',
        'exported backbone': f'{run_dir / "backbone.pth"} (1.0 MiB)',
    }


def test_page_is_self_contained(run_dir, monkeypatch):
    out = run_dir / 'new' / 'page.html'
    tool = ROOT / 'tools/analysis/quickstart_report.py'
    monkeypatch.setattr(
        sys, 'argv', [str(tool), str(run_dir), '--out', str(out)])
    runpy.run_path(str(tool), run_name='__main__')
    page = out.read_text(encoding='utf-8')
    sources = re.findall(r'src="([^"]*)"', page)
    assert all(src.startswith('data:image/png;base64,') for src in sources)
    # The last reconstruction, one loss term and the kNN monitor.
    assert len(sources) == 3
    picture = run_dir / 'picture.png'
    picture.write_bytes(base64.b64decode(sources[0].split(',')[1]))
    assert np.asarray(Image.open(picture)).mean() == 200
    assert '<h1>Pre-training: emae_quick</h1>' in page
    assert 'After 30 iterations' in page and 'no evidence' in page
    assert 'A &lt;fast&gt; one' in page
    assert '+11.5 points' in page


def test_what_is_not_there_is_left_out(run_dir):
    for name in ('probe.json', 'environment.json', 'backbone.pth',
                 'last_checkpoint'):
        (run_dir / name).unlink()
    for picture in (run_dir / 'vis').iterdir():
        picture.unlink()
    names = dict(figures(Run(run_dir)))
    assert names['k-nearest neighbours, before → after'] == '20.0 → 20.0 %'
    assert not any('probe' in name or 'parameters' in name for name in names)
    page = build_report(Run(run_dir))
    for absent in ('Reconstructions', 'Environment', 'VisionTransformer'):
        assert absent not in page


def test_directory_without_a_run_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='scalars.json.*train.py'):
        Run(tmp_path)
