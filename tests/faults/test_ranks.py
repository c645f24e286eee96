# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Two ranks: stopped, killed, frozen and hanging ones, and other numbers."""
import random
import time
from collections import defaultdict
from pathlib import Path

import pytest

WORKERS = dict(
    train_cfg=dict(max_epochs=4),
    train_dataloader=dict(num_workers=4, persistent_workers=True),
    default_hooks=dict(
        preemption=dict(interval=1),
        rank_watch=dict(timeout=15., interval=1.),
        checkpoint=dict(max_keep_ckpts=-1)))


def images_by_iteration(folder: Path) -> dict[int, list[int]]:
    found = defaultdict(list)
    for file in folder.glob('images*.txt'):
        for line in file.read_text().splitlines():
            iteration, *images = map(int, line.split())
            found[iteration] += images
    return {iteration: sorted(images) for iteration, images in found.items()}


@pytest.mark.long
def test_two_ranks_with_workers_resume_exactly(
        write_config, train, difference, tmp_path):
    """Stopped at a random iteration; then on one rank, and on three."""
    record = dict(type='RecordImages')
    stop = random.Random(0).randint(2, 10)
    strike = dict(type='StrikeRank', how='terminate', iteration=stop,
                  mark=str(tmp_path / 'struck'))
    assert train(write_config('unbroken', WORKERS, (record,)), 2).code == 0
    broken = write_config('broken', WORKERS, (record, strike))
    stopped = train(broken, 2)
    assert stopped.code != 0 and 'SIGTERM received' in stopped.log, stopped.log
    file, = (tmp_path / 'broken').glob('iter_*.pth')
    assert int(file.stem.split('_')[1]) >= stop
    resumed = train(broken, 2, '--resume')
    assert resumed.code == 0, resumed.log
    last = 'epoch_4.pth'
    unbroken = tmp_path / 'unbroken'
    change = difference(unbroken / last, tmp_path / 'broken' / last)
    print(f'stopped after {file.stem}; two ranks resumed: difference {change}')
    assert change == 0.0

    one = train(broken, 1, '--resume', str(unbroken / 'epoch_1.pth'),
                '--work-dir', str(tmp_path / 'one'))
    assert one.code == 0, one.log
    assert 'each takes 4 images an iteration in 2 part(s)' in one.log
    expected = images_by_iteration(unbroken)
    seen = images_by_iteration(tmp_path / 'one')
    assert len(seen) == 9 and len(expected) == 12
    assert all(seen[i] == expected[i] for i in seen)
    assert (tmp_path / 'one' / last).is_file()

    three = train(broken, 3, '--resume', str(unbroken / 'epoch_1.pth'),
                  '--work-dir', str(tmp_path / 'three'))
    assert three.code == 0, three.log
    assert 'the effective batch is 6 instead of 4' in three.log


@pytest.mark.long
@pytest.mark.parametrize('how', ['kill', 'hang', 'freeze'])
def test_a_rank_that_fails_stops_all_and_nothing_else_is_lost(
        how, write_config, train, difference, tmp_path):
    strike = dict(type='StrikeRank', how=how, iteration=8,
                  mark=str(tmp_path / 'struck'))
    config = write_config('broken', WORKERS, (strike,))
    start = time.monotonic()
    failed = train(config, 2, timeout=180)
    seconds = time.monotonic() - start
    assert failed.code != 0
    if how != 'kill':
        assert 'rank 1 (process' in failed.log, failed.log
        assert 'rank 0 (process' not in failed.log, failed.log
    if how == 'hang':
        assert 'hang_here (fault_hooks.py' in failed.log
    resumed = train(config, 2, '--resume')
    assert resumed.code == 0, resumed.log
    assert 'resumed epoch: 2, iter: 6' in resumed.log
    assert train(write_config('unbroken', WORKERS), 2).code == 0
    change = difference(tmp_path / 'broken/epoch_4.pth',
                        tmp_path / 'unbroken/epoch_4.pth')
    print(f'{how}: all stopped after {seconds:.0f} s; difference {change}')
    assert change == 0.0
