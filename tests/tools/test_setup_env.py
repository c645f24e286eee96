# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""What mmcv's operators are compiled for."""
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / 'tools/setup_env.sh'


@pytest.fixture
def flavour(tmp_path):
    """A function: what the script builds where CUDA lies in a folder."""

    def function(home):
        package = tmp_path / 'torch'
        (package / 'utils').mkdir(parents=True, exist_ok=True)
        (package / '__init__.py').write_text(
            'from types import SimpleNamespace as N\n'
            "version = N(cuda='13.0')\n"
            'cuda = N(is_available=lambda: True, '
            'get_device_capability=lambda: (8, 9))\n')
        (package / 'utils/__init__.py').touch()
        (package / 'utils/cpp_extension.py').write_text(f'CUDA_HOME = {home!r}\n')
        text, = re.findall(
            r'^ops_flavour\(\) \{.*?^\}', SCRIPT.read_text(), re.DOTALL | re.MULTILINE)
        return subprocess.run(
            ['bash', '-euc', f'{text}\nops_flavour'], text=True, capture_output=True,
            check=True, env=dict(
                os.environ, PYTHON=sys.executable, PYTHONPATH=str(tmp_path))
        ).stdout.strip()

    return function


def test_operators_for_the_gpu_need_a_compiler_of_torch_s_cuda(flavour, tmp_path):
    assert flavour(None) == 'cpu'
    home = tmp_path / 'cuda'
    (home / 'bin').mkdir(parents=True)
    # As in containers that only run what others compiled.
    assert flavour(str(home)) == 'cpu'
    nvcc = home / 'bin/nvcc'
    for release, wanted in (('13.0', 'cuda13.0-sm89'), ('12.8', 'cpu')):
        nvcc.write_text(f'#!/bin/sh\necho "release {release}, V{release}.1"\n')
        nvcc.chmod(0o755)
        assert flavour(str(home)) == wanted
