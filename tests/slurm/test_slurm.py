# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Two-task jobs on a real Slurm: stopped before their limit, resumed."""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LAST = 'epoch_100.pth'

pytestmark = pytest.mark.long


def _run(*command: object, **environment: str) -> subprocess.CompletedProcess:
    python = Path(sys.executable).parent
    return subprocess.run(
        [str(word) for word in command], text=True, cwd=ROOT, timeout=900,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=dict(os.environ, OMP_NUM_THREADS='1',
                 PATH=f'{python}{os.pathsep}{os.environ["PATH"]}',
                 PYTHONPATH=f'{ROOT}{os.pathsep}{HERE.parent / "faults"}',
                 **environment))


@pytest.fixture(scope='module')
def slurm():
    """A function that runs a command with a cluster of two nodes at hand."""
    folder = Path(tempfile.mkdtemp(prefix='slurm'))  # sockets need short paths
    script = HERE / 'cluster.sh'
    started = _run('bash', script, 'start', folder)
    try:
        if started.returncode == 77:
            pytest.skip(started.stdout.strip().splitlines()[-1])
        assert started.returncode == 0, started.stdout
        conf = str(folder / 'slurm.conf')
        yield lambda *command, **env: _run(*command, SLURM_CONF=conf, **env)
    finally:
        _run('bash', script, 'stop', folder)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def config(tiny_cfg, tmp_path) -> Path:
    """Of a run that takes longer than until its signal."""
    cfg = tiny_cfg(dict(
        custom_imports=dict(imports=['fault_hooks']),
        custom_hooks=[dict(type='SlowIterations', seconds=0.6)],
        train_cfg=dict(max_epochs=100), param_scheduler=[],
        default_hooks=dict(preemption=dict(interval=1),
                           checkpoint=dict(interval=1000))))
    path = tmp_path / 'tiny.py'
    cfg.dump(path)
    return path


def tensors(file: Path) -> list[torch.Tensor]:
    """Weights and optimizer state of a checkpoint."""
    content = torch.load(file, weights_only=False)
    states = content['optimizer']['state'].values()
    return [*content['state_dict'].values(),
            *(value for state in states for value in state.values())]


def difference_from_unbroken(folder: Path, config: Path, tmp_path: Path) -> float:
    text = config.read_text().replace('seconds=0.6', 'seconds=0.0')
    config.write_text(text)
    done = _run('bash', 'tools/dist_train.sh', config, 2, '--work-dir',
                tmp_path / 'unbroken')
    assert done.returncode == 0, done.stdout
    pairs = zip(tensors(folder / LAST), tensors(tmp_path / 'unbroken' / LAST),
                strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs)


def test_a_batch_job_is_requeued_and_resumes(slurm, config, tmp_path):
    """torchrun on two nodes, which meet by Slurm's variables."""
    folder, log = tmp_path / 'batch', tmp_path / 'log.txt'
    sent = slurm(
        'sbatch', '--parsable', '--nodes=2', '--time=4', '--signal=B:USR1@60',
        f'--output={log}', 'tools/slurm_batch.sh', config, 1, '--work-dir', folder)
    job = sent.stdout.strip()
    assert job.isdigit(), sent.stdout
    end = time.monotonic() + 1200
    while time.monotonic() < end:
        state = slurm('scontrol', 'show', 'job', job).stdout
        if re.search('JobState=(COMPLETED|FAILED|TIMEOUT)', state):
            break
        time.sleep(3)
    text = log.read_text()
    assert 'JobState=COMPLETED' in state, f'{state}\n{text}'
    restarts = int(re.search(r'Restarts=(\d+)', state).group(1))
    stops = re.findall(r'SIGUSR1 received: stopped after iteration (\d+)', text)
    resumed = re.findall(r'resumed epoch: \d+, iter: (\d+)', text)
    print(f'batch job: {restarts} restart(s), stopped after {sorted(set(stops))}')
    assert restarts >= 1 and stops and set(stops) <= set(resumed), text
    record = json.loads((folder / 'environment.json').read_text())
    assert record['world_size'] == 2
    change = difference_from_unbroken(folder, config, tmp_path)
    print(f'difference from the unbroken run: {change}')
    assert change == 0.0


def signal_when_it_trains(slurm, folder: Path) -> None:
    """What Slurm sends before the limit, at a moment of our choice."""
    while not any('Epoch(train)' in file.read_text()
                  for file in folder.glob('*/*.log')):
        time.sleep(1)
    steps = slurm('squeue', '--steps', '--noheader', '--format=%i').stdout.split()
    slurm('scancel', '--signal=USR1', next(s for s in steps if s.endswith('.0')))


def test_an_interactive_job_stops_and_resumes(slurm, config, tmp_path):
    """tools/slurm_train.sh: srun starts the ranks."""
    folder = tmp_path / 'srun'
    command = ('bash', 'tools/slurm_train.sh', 'test', 'tiny', config, folder,
               '--resume')
    environment = dict(GPUS='2', GPUS_PER_NODE='2', CPUS_PER_TASK='1',
                       SRUN_ARGS='--time=30')
    threading.Thread(
        target=signal_when_it_trains, args=(slurm, folder), daemon=True).start()
    stopped = slurm(*command, **environment)
    assert stopped.returncode == 138, stopped.stdout
    assert 'SIGUSR1 received: stopped after iteration' in stopped.stdout
    file, = folder.glob('iter_*.pth')
    resumed = slurm(*command, **environment)
    assert resumed.returncode == 0, resumed.stdout
    assert f'iter: {file.stem[5:]}' in resumed.stdout
    change = difference_from_unbroken(folder, config, tmp_path)
    print(f'srun: stopped after {file.stem}; difference {change}')
    assert change == 0.0
