# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Train fuzzed configs, one after the other, and write what comes of each.

    fuzz_configs.py BASE_CONFIG OUT FIRST COUNT

A config is a function of its number. Each is trained by tools/train.py in
this process for one epoch of two images, with time and memory limited. OUT
gets one JSON line a config, written before and after, so that one that takes
the process down is known.
"""
import importlib.util
import json
import random
import resource
import signal
import sys
import tempfile
import traceback
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import BaseLoop

TOOL = Path(__file__).parents[2] / 'tools/train.py'
#: Of the processor; a busy machine takes longer, but not WAIT.
SECONDS = 30
WAIT = 600
#: Parts that make no difference here or whose fields are free text.
SPARED = ('custom_imports', 'visualizer', 'vis_backends', 'log_level', 'work_dir',
          'default_scope')
WRONG = ('text', '', -1, 0, 3.7, None, [], {}, True, float('nan'), (1, 2, 3), -0.5,
         10**9, {'type': 'Nothing'}, ['a', 'b'])
UNKNOWN = ('mmeffmae.NoSuchThing', 'NoSuchThing', 'nopackage.Thing', 'mmeffmae.', '.',
           'mmengine.Nothing')


class TooSlow(BaseException):
    """A config that did not end in time."""


def places(value, path=()):
    """Every key and entry of a config."""
    pairs = (value.items() if isinstance(value, dict) else
             enumerate(value) if isinstance(value, list) else ())
    for key, item in pairs:
        if not path and key in SPARED:
            continue
        yield (*path, key)
        yield from places(item, (*path, key))


def owner(config, path):
    for key in path[:-1]:
        config = config[key]
    return config


def misspell(name, draw):
    at = draw.randrange(len(name))
    return name[:at] + name[at + 1:]


def fuzz(config: dict, number: int) -> tuple[str, list, object]:
    """Change a config in one place: kind, path and value of the change."""
    draw = random.Random(number)
    every = list(places(config))
    kind = draw.choice(['wrong', 'wrong', 'missing', 'unknown-key', 'unknown-name',
                        'misspelt', 'size'])
    if kind in ('unknown-name', 'misspelt'):
        path = draw.choice([p for p in every if p[-1] == 'type'])
        old = owner(config, path)['type']
        value = draw.choice(UNKNOWN) if kind == 'unknown-name' else misspell(old, draw)
    elif kind == 'size':
        path = draw.choice([p for p in every if type(owner(config, p)[p[-1]]) is int])
        old = owner(config, path)[path[-1]]
        value = draw.choice([-old, 0, old + 1, 3 * old + 1, 10**6, 2**40, -2**40])
    elif kind == 'unknown-key':
        path = draw.choice([p for p in every if isinstance(
            owner(config, p)[p[-1]], dict)])
        path, value = (*path, 'no_such_option'), 1
    else:
        path = draw.choice(every)
        value = draw.choice(WRONG)
    target = owner(config, path)
    if kind == 'missing':
        value = '(removed)'
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return kind, list(path), value


def is_training(error: BaseException) -> bool:
    """Whether it was stopped amid training, after some iterations."""
    loops = [frame.f_locals.get('self')
             for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(isinstance(loop, BaseLoop) and loop.iter > 2 for loop in loops)


def run(path: Path, work_dir: str) -> tuple[str, str]:
    """'ran', perhaps beyond the time, or 'error' and its last line, or 'hang'."""
    sys.argv = ['train.py', str(path), '--work-dir', work_dir]
    spec = importlib.util.spec_from_file_location('train_tool', TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    stopped = []

    def stop(number, frame):
        stopped.append(number)
        raise TooSlow
    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.signal(signal.SIGALRM, stop)
    signal.alarm(WAIT)
    try:
        tool.main()
        return 'ran', ''
    except SystemExit as left:
        return 'error', str(left.code)
    except BaseException as error:
        if not stopped:
            return 'raw', f'{type(error).__name__}: {error}'
        # Not only TooSlow: a bare except on the way makes another error of it.
        if is_training(error):
            return 'ran', f'longer than {SECONDS} s'
        return 'hang', traceback.format_exc()[-1500:]
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)


def main() -> None:
    base, out, first, count = sys.argv[1:]
    config = Config.fromfile(base).to_dict()
    resource.setrlimit(resource.RLIMIT_AS, (12 * 2**30, 12 * 2**30))
    for number in range(int(first), int(first) + int(count)):
        fuzzed = json.loads(json.dumps(config))
        kind, path, value = fuzz(fuzzed, number)
        record = dict(number=number, kind=kind, path=path, value=repr(value))
        with open(out, 'a') as file:
            file.write(json.dumps(dict(record, outcome='crash', said='')) + '\n')
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, 'fuzzed.py')
            fuzzed['experiment_name'] = f'fuzz{number}'
            file.write_text('nan = float("nan")\n' + '\n'.join(
                f'{key} = {item!r}' for key, item in fuzzed.items()))
            outcome, said = run(file, f'{folder}/run')
        with open(out, 'a') as file:
            file.write(json.dumps(dict(record, outcome=outcome, said=said)) + '\n')


if __name__ == '__main__':
    main()
