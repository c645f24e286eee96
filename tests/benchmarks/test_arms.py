# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""The committed arms files: every arm is a config of its own."""
from pathlib import Path

import pytest
from mmengine.config import Config

ARMS = Path(__file__).parents[2] / 'benchmarks/arms'


@pytest.mark.parametrize('path', sorted(ARMS.glob('*.py')), ids=lambda path: path.stem)
def test_arms_differ(path):
    """An option that changes nothing makes two alike."""
    file = Config.fromfile(path)
    assert file.get('peer', file.get('baseline', next(iter(file.arms)))) in file.arms
    found = set()
    for arm in file.arms.values():
        config = Config.fromfile(path.parent / arm.config)
        config.merge_from_dict(arm.get('options') or {})
        found.add((str(config.to_dict()), arm.get('like'), str(arm.get('cooldown'))))
    assert len(found) == len(file.arms)
