# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""The tutorial notebook runs from its first cell to its last."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def cells():
    notebook = json.loads((ROOT / 'docs/tutorial.ipynb').read_text())
    return [cell for cell in notebook['cells'] if cell['cell_type'] == 'code']


def test_runs(cells, tmp_path):
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    script = tmp_path / 'tutorial.py'
    script.write_text('\n\n'.join(''.join(cell['source']) for cell in cells))
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, 'MPLBACKEND': 'Agg', 'CUDA_VISIBLE_DEVICES': '',
             'PYTHONPATH': str(ROOT)})
    assert done.returncode == 0, done.stdout
    assert 'features (3, 192, 8, 8)' in done.stdout
    assert (tmp_path / 'work_dirs/tutorial/backbone.pth').is_file()


def test_is_committed_without_outputs(cells):
    assert not any(cell['outputs'] or cell['execution_count'] for cell in cells)
