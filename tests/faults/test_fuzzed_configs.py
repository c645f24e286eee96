# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""A wrong config ends in an error that says where it is wrong."""
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def train_fuzzed(base: Path, first: int, count: int, out: Path) -> list[dict]:
    """Outcome of each config; a new process follows one that died."""
    environment = dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT))
    records: dict[int, dict] = {}
    while len(records) < count:
        done = subprocess.run(
            [sys.executable, str(HERE / 'fuzz_configs.py'), str(base), str(out),
             str(first + len(records)), str(count - len(records))],
            env=environment, text=True, capture_output=True, cwd=out.parent)
        assert out.exists(), done.stderr
        before = len(records)
        for line in out.read_text().splitlines():
            record = json.loads(line)
            records[record['number']] = record
        assert len(records) > before, done.stderr[-3000:]
    return list(records.values())


def is_clear(record: dict) -> bool:
    """Whether the error names the setting, or the part that it belongs to."""
    keys = [str(key) for key in record['path'] if not isinstance(key, int)]
    named = keys[-2:] if keys[-1] == 'type' else keys[-1:]
    said = record['said']
    return record['outcome'] == 'error' and said.startswith('error: ') and (
        any(key in said for key in named) or record['value'].strip("'") in said)


def check(records: list[dict], capsys) -> None:
    counts = Counter(
        'clear error' if is_clear(r) else r['outcome'] for r in records)
    with capsys.disabled():
        print(f'\n{len(records)} fuzzed configs: ' + ', '.join(
            f'{count} {name}' for name, count in counts.most_common()))
    unclear = [r for r in records if r['outcome'] != 'ran' and not is_clear(r)]
    assert not unclear, '\n'.join(json.dumps(r) for r in unclear)
    # Nobody may train with a part that does not exist.
    for record in records:
        if record['kind'] == 'unknown-name':  # Adam is a misspelt AdamW
            assert record['outcome'] != 'ran', record


@pytest.fixture
def base(tiny_cfg, tmp_path) -> Path:
    cfg = tiny_cfg(dict(train_cfg=dict(max_epochs=1)))
    cfg.train_dataloader.dataset.indices = 2
    path = tmp_path / 'base.py'
    cfg.dump(path)
    return path


def test_fuzzed_configs(base, tmp_path, capsys):
    check(train_fuzzed(base, 0, 60, tmp_path / 'out.jsonl'), capsys)


@pytest.mark.long
def test_five_hundred_fuzzed_configs(base, tmp_path, capsys):
    check(train_fuzzed(base, 1000, 500, tmp_path / 'out.jsonl'), capsys)
