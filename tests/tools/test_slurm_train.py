# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import os
import subprocess
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / 'tools/slurm_train.sh'


@pytest.mark.parametrize('given, work_dir, rest', [
    ([], 'work_dirs/mae', []),
    (['--amp', '--resume'], 'work_dirs/mae', ['--amp', '--resume']),
    (['out', '--amp'], 'out', ['--amp']),
])
def test_passes_the_arguments_on(given, work_dir, rest, tmp_path):
    srun = tmp_path / 'srun'
    srun.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    srun.chmod(0o755)
    path = f'{tmp_path}:{os.environ["PATH"]}'
    done = subprocess.run(
        ['bash', TOOL, 'gpu', 'job', 'configs/mae.py', *given],
        env={**os.environ, 'PATH': path, 'GPUS': '2'},
        capture_output=True, text=True, check=True)
    words = done.stdout.splitlines()
    assert words[:4] == ['-p', 'gpu', '--job-name=job', '--gres=gpu:2']
    assert {'--ntasks=2', '--ntasks-per-node=2'} <= set(words)
    assert words[words.index('configs/mae.py') + 1:] == [
        '--work-dir', work_dir, '--launcher', 'slurm', *rest]
