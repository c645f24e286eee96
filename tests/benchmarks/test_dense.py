# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mmeffmae.benchmarks import dense
from mmeffmae.benchmarks.dense import DenseRun
from mmeffmae.evaluation.downstream import DownstreamRun
from mmeffmae.visualization import save_picture
from mmeffmae.visualization.report import _downstream

CONFIG = """
model = dict(type='X', backbone=dict(init_cfg={init}))
train_dataloader = dict(dataset=dict(data_root='data/mini/coco/'))
"""


def leave_run(folder, init, bbox_map):
    """What a detector's training leaves in its work directory."""
    log = folder / '20260101_000000' / 'vis_data'
    log.mkdir(parents=True)
    (log / 'config.py').write_text(CONFIG.format(init=init))
    lines = [dict(loss=3.0, step=50), dict(loss=2.0, step=160),
             {'coco/bbox_mAP': .1, 'coco/segm_mAP': .1, 'step': 2},
             {'coco/bbox_mAP': bbox_map, 'coco/segm_mAP': .25, 'step': 4}]
    (log / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)))
    (folder / 'environment.json').write_text('{"config": "a/htc_x.py"}')
    save_picture(np.zeros((2, 2, 3), np.uint8),
                 folder / 'vis/predictions_iter_00000160.png')


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'htc_x.py'
    path.write_text(CONFIG.format(init="dict(type='Pretrained')"))
    for name, content in (('a', b'1'), ('b', b'1'), ('c', b'2')):
        (tmp_path / f'{name}.pth').write_bytes(content)
    return path


def test_result_is_that_of_the_last_validation(tmp_path):
    leave_run(tmp_path, 'None', .375)
    run = DownstreamRun.read(tmp_path)
    assert run == DownstreamRun(
        config='htc_x', pretrained=False, steps=160,
        metrics={'box AP': 37.5, 'mask AP': 25.0},
        picture=tmp_path / 'vis/predictions_iter_00000160.png')


def test_run_without_validation_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match='has no result'):
        DownstreamRun.read(tmp_path)


def test_report_compares_the_runs_of_a_config(tmp_path):
    leave_run(tmp_path / '1', "dict(type='Pretrained')", .5)
    leave_run(tmp_path / '2', 'None', .375)
    page = '\n'.join(_downstream(
        [DownstreamRun.read(tmp_path / name) for name in '12']))
    assert page.count('<h2>Detection: htc_x</h2>') == 1
    before, after = page.index('untrained'), page.index('pre-trained')
    assert before < page.index('box AP 37.5 %') < after
    assert after < page.index('box AP 50.0 %')


def test_name_of_a_result_depends_on_what_the_backbone_holds(config, tmp_path):
    names = {n: DenseRun(config, tmp_path / f'{n}.pth', 0).name for n in 'abc'}
    assert names['a'] == names['b'] != names['c']
    assert DenseRun(config, None, 0).name.startswith('htc_x_untrained_')
    assert DenseRun(config, None, 0).name != DenseRun(
        config, None, 0, ('train_cfg.max_epochs=1', )).name


def test_measures_once_from_the_right_start(config, tmp_path, monkeypatch):
    commands = []

    def run(command, check):
        commands.append(command)
        leave_run(Path(command[command.index('--work-dir') + 1]), 'None', .5)

    monkeypatch.setattr(dense, 'subprocess', SimpleNamespace(run=run))
    for backbone in (None, tmp_path / 'a.pth', None):
        shard = DenseRun(config, backbone, 3).measure(
            tmp_path / 'out', tmp_path / 'work')
    assert [c[-1] for c in commands] == [
        'model.backbone.init_cfg=None',
        f'model.backbone.init_cfg.checkpoint={tmp_path}/a.pth']
    assert all(c[c.index('--seed') + 1] == '3' for c in commands)
    content = json.loads(shard.read_text())
    assert {key: content[key] for key in (
        'data', 'init', 'seed', 'iterations', 'values', 'backbone')} == dict(
            data='mini', init='untrained', seed=3, iterations=160, backbone=None,
            values={'box AP': 50.0, 'mask AP': 25.0})
    assert 'commit' in content


def test_backbones_have_names_of_their_own(config, tmp_path, monkeypatch, capsys):
    measured = []

    def measure(run, out, work_dirs):
        measured.append((run.init, run.backbone))

    monkeypatch.setattr(DenseRun, 'measure', measure)

    def tool(*backbones):
        monkeypatch.setattr(
            'sys.argv', ['dense_compare.py', str(config), '--backbone', *backbones])
        runpy.run_path(str(dense.TRAIN.parent / 'benchmarks/dense_compare.py'),
                       run_name='__main__')

    a, c = tmp_path / 'a.pth', tmp_path / 'c.pth'
    tool(f'mine={a}', str(c))
    assert measured == [('mine', a), ('pretrained', c), ('untrained', None)]
    for wrong in ((f'mine={a}', f'mine={c}'), (f'untrained={a}', )):
        with pytest.raises(SystemExit, match='a name of its own'):
            tool(*wrong)
