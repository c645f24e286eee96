# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Runs of tools/train.py in processes of their own."""
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@dataclass
class Outcome:
    code: int
    log: str


def _environment() -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])
    return dict(os.environ, OMP_NUM_THREADS='1', PATH=path,
                PYTHONPATH=os.pathsep.join(map(str, (ROOT, HERE))))


@pytest.fixture
def start():
    """A function that starts training on some ranks, in a process group."""
    processes = []

    def function(config: Path, ranks: int, *arguments: str) -> subprocess.Popen:
        command = (
            ['bash', str(ROOT / 'tools/dist_train.sh'), str(config), str(ranks)]
            if ranks > 1 else [sys.executable, str(ROOT / 'tools/train.py'),
                               str(config)])
        processes.append(subprocess.Popen(
            [*command, *arguments], env=_environment(), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True))
        return processes[-1]

    yield function
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.fixture
def train(start):
    """A function that trains on some ranks and waits."""

    def function(config: Path, ranks: int, *arguments: str,
                 timeout: float = 300) -> Outcome:
        process = start(config, ranks, *arguments)
        log = process.communicate(timeout=timeout)[0]
        return Outcome(process.returncode, log)

    return function


@pytest.fixture
def write_config(tiny_cfg, tmp_path):
    """A function that writes a config of a tiny run with faults."""

    def function(name: str, changes: dict | None = None,
                 hooks: tuple[dict, ...] = (), load: tuple[dict, ...] = ()) -> Path:
        cfg = tiny_cfg(changes)
        cfg.merge_from_dict(dict(
            custom_imports=dict(imports=['fault_hooks']), custom_hooks=list(hooks),
            work_dir=str(tmp_path / name)))
        cfg.train_dataloader.dataset.pipeline[1:1] = list(load)
        path = tmp_path / f'{name}.py'
        cfg.dump(path)
        return path

    return function


@pytest.fixture
def difference():
    """A function: largest difference of weights and optimizer state of two files."""

    def tensors(file: Path) -> list[torch.Tensor]:
        content = torch.load(file, weights_only=False)
        optimizer = content['optimizer']['state'].values()
        return [*content['state_dict'].values(),
                *(value for state in optimizer for value in state.values())]

    def function(first: Path, second: Path) -> float:
        pairs = zip(tensors(first), tensors(second), strict=True)
        return max(float((a - b).abs().max()) for a, b in pairs)

    return function
