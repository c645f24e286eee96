# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Sphinx builds the site without a warning."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_builds(tmp_path):
    for name in ('sphinx', 'myst_parser', 'furo'):
        pytest.importorskip(name)
    done = subprocess.run(
        [sys.executable, '-m', 'sphinx', '-q', '-b', 'html', '-W', '--keep-going',
         '-d', tmp_path / 'doctrees', ROOT / 'docs', tmp_path / 'html'],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, 'MPLBACKEND': 'Agg', 'PYTHONPATH': str(ROOT)})
    assert done.returncode == 0, done.stdout
    for page in ('index', 'tutorial', 'methods/pcae', 'benchmarks/results'):
        assert (tmp_path / 'html' / f'{page}.html').is_file()
