# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""FSDP in two processes learns what DDP learns."""
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

ROOT = Path(__file__).parents[2]


def train(config: Path, work_dir: Path, *options: str) -> list[float]:
    """Losses of every iteration."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    done = subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node=2',
         f'--master_port={port}', ROOT / 'tools/train.py', config, '--launcher',
         'pytorch', '--work-dir', work_dir, *options],
        env=dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT)),
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=400)
    assert done.returncode == 0, done.stdout
    log, = work_dir.rglob('scalars.json')
    return [json.loads(line)['loss'] for line in log.read_text().splitlines()]


@pytest.mark.long
def test_sharded_run_learns_what_ddp_learns(tiny_cfg, tmp_path):
    runtime = Config.fromfile(ROOT / 'configs/_base_/fsdp_runtime.py')
    cfg = tiny_cfg(dict(
        default_hooks=dict(logger=dict(interval=1)),
        optim_wrapper=dict(optimizer=dict(fused=True))))
    # Torch cannot gather whole checkpoints on a CPU.
    cfg.default_hooks.checkpoint.update(interval=-1, save_last=False)
    cfg.dump(tmp_path / 'ddp.py')
    cfg.runner_type, cfg.strategy = runtime.runner_type, runtime.strategy
    cfg.strategy.model_wrapper.device_id = 'cpu'
    cfg.dump(tmp_path / 'fsdp.py')
    losses = {
        name: train(tmp_path / f'{name}.py', tmp_path / name)
        for name in ('ddp', 'fsdp')
    }
    assert len(losses['ddp']) == 6  # two epochs of three
    assert losses['fsdp'] == pytest.approx(losses['ddp'], rel=1e-4)
