# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Largest stable rates: the rule by hand, and the command in small."""
import runpy
import sys
from pathlib import Path

import pytest

from mmeffmae.benchmarks.shards import read_json
from mmeffmae.benchmarks.stability import is_stable, largest_stable, stability_tables
from mmeffmae.evaluation.record import write_json

ARMS = """
baseline = 'mae'
arms = dict(mae=dict(config='tiny.py'))
budget = dict(kind='images', amount=40)
seeds = (0,)
tune_seed = 100
"""
TOOL = Path(__file__).parents[2] / 'tools/benchmarks/stability.py'


@pytest.mark.parametrize('windows, stable', [
    ([1.0, .8, .6], True),
    ([1.0, .6, .65], True),  # 8 % above the lowest
    ([1.0, .6, .67], False),
    ([1.0, 1.1, 1.0], False),  # learned nothing
    ([1.0, .6, None], False),
])
def test_rule(windows, stable):
    assert is_stable(windows) == stable


def test_rates_above_the_first_that_diverged_do_not_count():
    good, bad = [1.0, .5], [1.0, 2.0]
    runs = [dict(factor=f, windows=w) for f, w in ((4, good), (1, good), (2, bad))]
    assert largest_stable(runs) == 1
    assert largest_stable(runs[2:]) == 0


def test_table(tmp_path):
    for seed, ends in ((0, (.5, .4)), (1, (.7, 3.))):
        for factor, end in zip((1, 2), ends):
            write_json(
                dict(study='s', arm='tied', factor=factor, seed=seed, steps=1000,
                     windows=[1.0, end]), tmp_path / f'{seed}{factor}.json')
    table = stability_tables(sorted(tmp_path.glob('*.json')))
    assert '| tied | 0.600 | 0.400, 1 of 2 diverged | 2, 1 |' in table


def test_command(tiny_cfg, tmp_path, monkeypatch, capsys):
    tiny_cfg().dump(tmp_path / 'tiny.py')
    (tmp_path / 'small.py').write_text(ARMS)
    arguments = ['--factors', '1', '1e30',
                 '--out', str(tmp_path / 'out'), '--work-dir', str(tmp_path / 'w')]
    for trained in (True, False):
        monkeypatch.setattr(
            sys, 'argv', [str(TOOL), str(tmp_path / 'small.py'), *arguments])
        runpy.run_path(str(TOOL), run_name='__main__')
        assert ('mae x1 seed 0 ...' in capsys.readouterr().out) == trained
    by_factor = {of['factor']: of for of in map(
        read_json, (tmp_path / 'out').glob('*.json'))}
    assert by_factor[1]['steps'] == 20
    assert all(window is not None for window in by_factor[1]['windows'])
    assert by_factor[1e30]['windows'][-1] is None
    assert not list((tmp_path / 'w').glob('small_*'))
