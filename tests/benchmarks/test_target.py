# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""The target is fixed once, from the baseline alone."""
import json

import pytest

from mmeffmae.benchmarks.shards import Shards, read_json
from mmeffmae.benchmarks.target import TargetError, fix_target
from mmeffmae.evaluation.record import write_json


@pytest.fixture
def study(tmp_path):
    shards = Shards(tmp_path)
    for seed, (untrained, final) in enumerate([(40, 60), (44, 64)]):
        for path, value in ((shards.untrained('e', seed), untrained),
                            (shards.branch('mae', 'k', seed, 1.0), final)):
            write_json(dict(values=dict(linear=value, knn=1.0)), path)
    return shards


def fix(shards, candidates=(), seeds=(0, 1)):
    return fix_target(
        shards, 'mae', 'linear',
        [shards.untrained('e', seed) for seed in seeds],
        [shards.branch('mae', 'k', seed, 1.0) for seed in seeds],
        list(candidates))


def test_formula_and_record(study):
    # Means 42 and 62.
    assert fix(study)['target'] == pytest.approx(42 + 0.95 * 20)
    assert read_json(study.target)['final'] == {
        'mae/k_seed0_100.json': 60, 'mae/k_seed1_100.json': 64}


def test_candidates_cannot_come_first(study):
    with pytest.raises(TargetError, match='candidates have been measured'):
        fix(study, candidates=[study.root / 'emae/x_seed0_025.json'])


def test_unfinished_baseline(study):
    with pytest.raises(TargetError, match=r'seed2.json and 1 more.*baseline'):
        fix(study, seeds=(0, 1, 2))


def test_it_stays(study):
    before = fix(study)
    study.target.read_text()
    write_json(dict(values=dict(linear=99)), study.branch('mae', 'k', 2, 1.0))
    candidates = [study.root / 'emae/x_seed0_025.json']
    assert fix(study, candidates, seeds=(0, 1, 2)) == before


@pytest.mark.parametrize('change, words', [
    (lambda path: path.unlink(), 'is gone now'),
    (lambda path: path.write_text(json.dumps(dict(values=dict(linear=61)))),
     'held linear 60 when the target 61.000 was fixed and holds 61 now'),
])
def test_a_changed_baseline_is_an_error(study, change, words):
    fix(study)
    change(study.branch('mae', 'k', 0, 1.0))
    with pytest.raises(TargetError, match=words):
        fix(study)
