# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import json
import os
import platform
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

import mmeffmae
from mmeffmae.config_hash import config_hash
from mmeffmae.engine.storage import AtomicLocalBackend
from mmeffmae.registry import HOOKS

_PACKAGES = ('torch', 'torchvision', 'numpy', 'scipy', 'mmcv', 'mmengine',
             'mmpretrain', 'mmdet', 'mmseg')


@HOOKS.register_module()
class EnvironmentHook(Hook):
    """Write ``environment.json`` when training starts, on rank 0.

    It holds what is needed to repeat or compare a run: command, config hash,
    seed, versions and distributions of the packages, commit, and machine.
    The work directory has that of the last start, each log directory its
    own.
    """

    @master_only
    def before_train(self, runner: Runner) -> None:
        """Write the record."""
        record = dict(
            time=runner.timestamp,
            command=[sys.executable, *sys.argv],
            config=str(runner.cfg.filename),
            config_hash=config_hash(runner.cfg),
            seed=runner.seed,
            world_size=runner.world_size,
            start_iter=runner.iter,
            torch_build=torch.__config__.show().splitlines(),
            **describe_environment())
        text = json.dumps(record, indent=2)
        for directory in (runner.work_dir, runner.log_dir):
            AtomicLocalBackend().put_text(text, f'{directory}/environment.json')


def describe_environment() -> dict[str, Any]:
    """Versions, commit and machine, in plain types."""
    return dict(
        mmeffmae=mmeffmae.__version__,
        commit=_commit(),
        python=platform.python_version(),
        platform=f'{platform.system()} {platform.machine()}',
        packages=_packages(),
        machine=_machine())


@cache
def _packages() -> dict[str, str]:
    """Import name to distribution and version; upstream and onedl differ."""
    owners = metadata.packages_distributions()
    return {
        name: ', '.join(f'{owner} {metadata.version(owner)}'
                        for owner in sorted(set(owners[name])))
        for name in _PACKAGES if name in owners
    }


def _commit() -> str | None:
    """Commit of the checkout that the package runs from, if it is one."""
    root = Path(mmeffmae.__file__).parents[1]
    if not (root / '.git').exists():
        return None
    try:
        return subprocess.run(
            ['git', '-C', str(root), 'describe', '--always', '--dirty',
             '--abbrev=40', '--exclude=*'],
            capture_output=True, text=True, check=True,
            timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _machine() -> dict[str, Any]:
    gpus = [torch.cuda.get_device_name(i)
            for i in range(torch.cuda.device_count())]
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    return dict(
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(memory / 2**30, 1),
        threads=torch.get_num_threads(),
        gpus=gpus)


def _cpu_model() -> str:
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [x.partition(':')[2] for x in lines if x.startswith('model name')]
    return names[0].strip() if names else platform.processor()
