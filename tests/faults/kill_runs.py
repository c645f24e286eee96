# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Kill a run at random moments, resume it each time, and let it end.

    kill_runs.py CONFIG UNBROKEN_CONFIG KILLS

Every run is a fork of this process, which has imported everything and started
nothing: twenty starts cost little. Output goes to CONFIG's name with .log.
"""
import importlib.util
import os
import random
import signal
import sys
import time
from pathlib import Path

import mmpretrain.models  # noqa: F401
from mmengine.runner import find_latest_checkpoint

import mmeffmae.datasets
import mmeffmae.engine
import mmeffmae.models  # noqa: F401
from mmeffmae.engine.resume import read_meta

TOOL = Path(__file__).parents[2] / 'tools/train.py'


def start(config: Path, log: Path) -> int:
    """Resume, or begin, in a process group of its own."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    with open(log, 'ab', buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    code = 1
    try:
        sys.argv = ['train.py', str(config), '--resume']
        spec = importlib.util.spec_from_file_location('train_tool', TOOL)
        tool = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(tool)
        tool.main()
        code = 0
    finally:
        sys.stdout.flush()
        os._exit(code)


def iteration(config: Path) -> int:
    file = find_latest_checkpoint(str(config.with_suffix('')))
    return read_meta(Path(file))['iter'] if file else 0


def main() -> int:
    broken, unbroken, kills = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    draw, log = random.Random(0), broken.with_suffix('.log')
    for _ in range(kills):
        log.write_bytes(b'')
        child = start(broken, log)
        while b'Checkpoints will be saved' not in log.read_bytes():
            time.sleep(0.01)
        time.sleep(draw.uniform(0., 1.5))
        os.killpg(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            print('it ended before the kill', log.read_text()[-3000:])
            return 1
        print(f'killed, last checkpoint {iteration(broken)}', flush=True)
    log.write_bytes(b'')
    codes = [os.waitpid(start(config, config.with_suffix('.log')), 0)[1]
             for config in (broken, unbroken)]
    return int(any(codes))


if __name__ == '__main__':
    sys.exit(main())
