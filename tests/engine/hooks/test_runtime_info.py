# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import json
from pathlib import Path

import pytest
import torch


def logs(run: Path) -> list[dict]:
    file, = run.rglob('scalars.json')
    return [json.loads(line) for line in file.read_text().splitlines()]


def settled(line: dict) -> dict:
    """Without what depends on the speed of the machine."""
    return {name: value for name, value in line.items() if 'time' not in name
            and name not in ('images_per_s', 'memory')}


def test_the_log_and_the_checkpoint_are_as_with_mmengine_s(
        tiny_cfg, build_runner, tmp_path):
    """Log lines and saves fall between the others, at 4 and 5 of 6."""
    found = {}
    for name in ('LazyRuntimeInfoHook', 'RuntimeInfoHook'):
        prefix = 'mmeffmae.' if name.startswith('Lazy') else ''
        runner = build_runner(tiny_cfg(dict(
            work_dir=str(tmp_path / name),
            default_hooks=dict(
                runtime_info=dict(type=f'{prefix}{name}'),
                logger=dict(interval=4, ignore_last=False),
                checkpoint=dict(
                    by_epoch=False, interval=5, max_keep_ckpts=-1)))))
        runner.train()
        saved = torch.load(tmp_path / name / 'iter_5.pth', weights_only=False)
        history = saved['message_hub']['log_scalars']['train/loss'].data[0]
        found[name] = [settled(line) for line in logs(tmp_path / name)], [*history]
    assert len(found['RuntimeInfoHook'][0]) == 4
    assert len(found['RuntimeInfoHook'][1]) == 5
    for lazy, eager in zip(*(lines for lines, _ in found.values())):
        assert lazy == pytest.approx(eager)
    assert found['LazyRuntimeInfoHook'][1] == pytest.approx(found['RuntimeInfoHook'][1])
