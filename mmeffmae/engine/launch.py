# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""What the command-line tools share: config, arguments, processes."""
import argparse
import os
import re
import subprocess
import sys
import traceback
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmeffmae.checkpoint.licences import licence_of
from mmeffmae.checkpoint.loading import CheckpointError, load_checkpoint_safely

from .config_check import (
    drop_absent_hooks,
    explain_build_error,
    is_our_refusal,
    wrong_settings,
)
from .resume import keep_effective_batch, last_usable_checkpoint, read_meta

_TRAINING_FIELDS = ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper')
_TESTING_FIELDS = ('model', 'test_dataloader', 'test_cfg', 'test_evaluator')
_AMP_READY = ('OptimWrapper', 'AmpOptimWrapper', 'BFloat16OptimWrapper',
              'mmeffmae.BFloat16OptimWrapper')
_AMP_OPTIONS = ('dtype', 'loss_scale', 'use_fsdp', 'enabled')
_DDP = 'MMDistributedDataParallel'
_EXTRAS = {'mmdet': 'det', 'mmseg': 'seg'}


class ConfigError(ValueError):
    """A config or an argument that cannot work; tools print it and stop."""


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that training and testing share."""
    parser.add_argument('--work-dir', help='folder of logs and checkpoints')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
        help='change settings of the config, such as '
        'train_dataloader.batch_size=8 or key="[(a,b),(c,d)]"')
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none', help='what starts the processes')
    # torch.distributed.launch passes it; torchrun sets the variable.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def run_tool(args: argparse.Namespace, training: bool,
             run: Callable[[argparse.Namespace, Config], None]) -> None:
    """Read the config and run; what a user can mend ends in one clear line.

    Args:
        args: With the arguments of :func:`add_common_arguments`.
        training: Whether the config must be one for training.
        run: Called with the arguments and the config.
    """
    cfg = None
    try:
        cfg = load_config(args, training)
        run(args, cfg)
    except (CheckpointError, ConfigError, FileNotFoundError,
            FloatingPointError) as error:
        sys.exit(f'error: {error}')
    except Exception as error:
        # mmengine's messages lack the place in the config; ours have it.
        clear = None if cfg is None else explain_build_error(cfg, error)
        if clear is None and is_our_refusal(error):
            clear = str(error)
        if clear is None:
            raise
        traceback.print_exc()
        sys.exit(f'error: {clear}')


def load_config(args: argparse.Namespace, training: bool) -> Config:
    """Read the config and merge the common arguments.

    Raises:
        ConfigError: The file, a field or the package of its scope is
            missing, or a setting that every run has cannot be right.
    """
    path = Path(args.config)
    if not path.is_file():
        raise ConfigError(f'config {path} is not a file (searched from '
                          f'{Path.cwd()})')
    try:
        cfg = Config.fromfile(path)
        if args.cfg_options is not None:
            cfg.merge_from_dict(args.cfg_options)
    except Exception as error:  # a config is a program
        raise ConfigError(f'config {path} cannot be read: '
                          f'{type(error).__name__}: {error}') from error
    fields = _TRAINING_FIELDS if training else _TESTING_FIELDS
    missing = [name for name in fields if cfg.get(name) is None]
    if missing:
        raise ConfigError(
            f'config {path} has no {", ".join(missing)}, which '
            f'{"training" if training else "testing"} needs')
    _check_scope(cfg, path)
    drop_absent_hooks(cfg)
    wrong = wrong_settings(cfg)
    if wrong:
        raise ConfigError(f'config {path}: ' + '; '.join(wrong))
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = f'./work_dirs/{path.stem}'
    return cfg


def _check_scope(cfg: Config, path: Path) -> None:
    scope = cfg.get('default_scope', 'mmengine')
    if find_spec(scope) is None:
        extra = _EXTRAS.get(scope)
        mend = f'pip install "mmeffmae[{extra}]"' if extra else 'install it'
        raise ConfigError(f'config {path} has default_scope={scope!r}, but '
                          f'the package {scope} is not installed: {mend}')
    if scope == 'mmdet' and get_device() == 'cuda' and not _operators_have_cuda():
        raise ConfigError(
            f"config {path}: detectors on a GPU need mmcv's operators compiled for it, "
            'and these were compiled without CUDA: install the CUDA toolkit '
            f'{torch.version.cuda}, remove .venv and run tools/setup_env.sh; or hide '
            'the GPU (CUDA_VISIBLE_DEVICES=)')


def _operators_have_cuda() -> bool:
    """Whether mmcv's operators run on a GPU; true as well where it has none."""
    try:
        from mmcv.ops import get_compiling_cuda_version
    except ImportError:  # the config's own imports say it
        return True
    return get_compiling_cuda_version() != 'not available'


def set_resume(cfg: Config, resume: str | None) -> list[str]:
    """Merge ``--resume``: None, 'auto' or a checkpoint.

    'auto' takes the last usable checkpoint of the work directory. If the run
    has written none, it starts as the config says, ``load_from`` included.
    On another number of ranks the effective batch is kept where it can be.

    Returns:
        list: What the user should know, for the log.

    Raises:
        ConfigError: The checkpoint, or every one of the run, cannot be used.
    """
    if resume is None and cfg.get('resume'):
        resume = cfg.get('load_from') or 'auto'
    if resume is None:
        return []
    try:
        if resume == 'auto':
            last, meta, notes = last_usable_checkpoint(cfg.work_dir)
            file = None if last is None else str(last)
        else:  # an address is looked at when it is loaded
            meta = {} if '://' in resume else read_meta(Path(resume))
            file, notes = resume, []
    except (CheckpointError, FileNotFoundError) as error:
        raise ConfigError(f'--resume: {error}') from error
    cfg.resume = file is not None
    if file is None:
        return []
    cfg.load_from = file
    if notes:
        notes = [f'Not resumed from the newest checkpoint: {"; ".join(notes)}. '
                 f'Resumed from {file}, after iteration {meta["iter"]}, instead']
    changed = keep_effective_batch(cfg, meta, world_size(cfg.get('launcher', 'none')))
    return [*notes, changed] if changed else notes


def set_init(cfg: Config, path: str) -> None:
    """Merge ``--init``: the file that ``model.backbone`` starts from.

    Prints the licence of its weights.

    Raises:
        ConfigError: The file cannot be used, or the model has no backbone.
    """
    if 'backbone' not in cfg.model:
        raise ConfigError(f'--init {path}: the config has no model.backbone')
    try:
        content = load_checkpoint_safely(path)
    except (CheckpointError, FileNotFoundError) as error:
        raise ConfigError(f'--init: {error}') from error
    keys = content.get('state_dict', content)
    nested = any(key.startswith('backbone.') for key in keys)
    cfg.model.backbone.init_cfg = dict(
        type='Pretrained', checkpoint=path,
        prefix='backbone.' if nested else None)
    print(f'licence of {path}: {licence_of(path, content)}')


def use_amp(cfg: Config) -> None:
    """Merge ``--amp``: bfloat16, but float16 for mmdet.

    mmcv's RoIAlign has no bfloat16 kernel.

    Raises:
        ConfigError: The optimizer wrapper has no mixed-precision form, or
            mmdet runs without a GPU.
    """
    wrapper = cfg.optim_wrapper
    if wrapper.get('type', 'OptimWrapper') not in _AMP_READY:
        raise ConfigError(f'--amp: optim_wrapper.type={wrapper.type!r} has '
                          'no mixed-precision form; set its precision in the '
                          'config instead')
    for option in _AMP_OPTIONS:
        wrapper.pop(option, None)
    if cfg.get('default_scope') != 'mmdet':
        wrapper.update(type='mmeffmae.BFloat16OptimWrapper', enabled=True)
        return
    if get_device() == 'cpu':
        raise ConfigError('--amp: mmdet trains in float16, which needs a '
                          'GPU: leave --amp out')
    wrapper.update(
        type='AmpOptimWrapper', dtype='float16', loss_scale='dynamic')


def leave_amp_to_gpus(cfg: Config) -> list[str]:
    """Train in float32 on a CPU where a config names ``AmpOptimWrapper``.

    mmengine's wrapper refuses CPUs, so a recipe could not be tried out there.

    Returns:
        list: What the user should know, for the log.
    """
    wrapper = cfg.optim_wrapper
    if wrapper.get('type') != 'AmpOptimWrapper' or get_device() != 'cpu':
        return []
    for option in _AMP_OPTIONS:
        wrapper.pop(option, None)
    wrapper.type = 'OptimWrapper'
    return ['optim_wrapper.type: AmpOptimWrapper needs a GPU, there is none: trains '
            'in float32']


def world_size(launcher: str) -> int:
    """Number of processes that the launcher has started.

    Raises:
        ConfigError: The launcher has not set its environment variables.
    """
    if launcher == 'none':
        return 1
    return int(_variables(launcher)['WORLD_SIZE'])


def init_processes(cfg: Config) -> None:
    """Prepare a run of several processes; does nothing for a single one.

    Gradients become views of DDP's buckets, which keeps them once while none
    accumulate, unless ``model_wrapper_cfg`` says ``gradient_as_bucket_view=False``.
    On CPUs it starts the process group, since mmengine's ``init_dist`` needs a GPU.

    Raises:
        ConfigError: The launcher has not set its environment variables.
    """
    if cfg.launcher == 'slurm':  # two jobs on a machine keep apart
        os.environ.setdefault('MASTER_PORT', _job_port())
        os.environ.setdefault('MASTER_ADDR', _first_host())
    if cfg.launcher == 'none':
        return
    on_cpu = get_device() == 'cpu'
    if 'strategy' not in cfg:  # which wraps the model by itself, such as FSDP
        cfg.model_wrapper_cfg = _model_wrapper(cfg, on_cpu)
    if cfg.launcher == 'mpi' or on_cpu:  # mmengine knows MPI's rank alone
        os.environ.update(_variables(cfg.launcher))
    if not on_cpu:
        return
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo')


def _model_wrapper(cfg: Config, on_cpu: bool) -> dict[str, Any]:
    """Mmengine's default wrapper, or the config's, with views of buckets."""
    wrapper = dict(cfg.get('model_wrapper_cfg') or {})
    wrapper.setdefault('type', _DDP)
    if str(wrapper['type']).endswith(_DDP):
        wrapper = {
            'broadcast_buffers': False,
            'find_unused_parameters': cfg.get('find_unused_parameters', False),
            'gradient_as_bucket_view': True,
            **wrapper
        }
    if on_cpu:
        wrapper['device_ids'] = None
    return wrapper


def _variables(launcher: str) -> dict[str, str]:
    """Torch's variables of a distributed run, from those of the launcher."""
    names = dict(
        pytorch=('RANK', 'WORLD_SIZE', 'LOCAL_RANK'),
        slurm=('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID'),
        mpi=('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE',
             'OMPI_COMM_WORLD_LOCAL_RANK'))[launcher]
    missing = [name for name in names if name not in os.environ]
    if missing:
        start = dict(
            pytorch='tools/dist_train.sh or torchrun',
            slurm='tools/slurm_train.sh or srun', mpi='mpirun')[launcher]
        raise ConfigError(f'--launcher {launcher}: {", ".join(missing)} not '
                          f'set: start the processes with {start}')
    rank, size, local = (os.environ[name] for name in names)
    values = dict(RANK=rank, WORLD_SIZE=size, LOCAL_RANK=local)
    values['MASTER_PORT'] = os.environ.get('MASTER_PORT', '29500')
    if launcher == 'mpi' and 'MASTER_ADDR' not in os.environ and (
            os.environ.get('OMPI_COMM_WORLD_LOCAL_SIZE', size) != size):
        raise ConfigError(
            '--launcher mpi on several computers: MASTER_ADDR is not set: export '
            'the first one\'s address, and pass it on with mpirun -x MASTER_ADDR')
    values['MASTER_ADDR'] = os.environ.get('MASTER_ADDR') or _first_host()
    return values


def _job_port() -> str:
    return str(20000 + int(os.environ.get('SLURM_JOB_ID', 9500)) % 10000)


def _first_host() -> str:
    """Address of the first node; not every node's name resolves."""
    nodes = os.environ.get('SLURM_NODELIST')
    if nodes is None or os.environ.get('SLURM_NNODES') == '1':
        return '127.0.0.1'
    host = _scontrol('show', 'hostnames', nodes).split()[0]
    address = re.search(r'NodeAddr=(\S+)', _scontrol('show', 'node', host))
    return address[1] if address else host


def _scontrol(*words: str) -> str:
    return subprocess.run(['scontrol', *words], capture_output=True, text=True,
                          check=True).stdout


def _pin_memory(cfg: Config) -> None:
    """Let images be copied to the GPU while it computes.

    Where no process loads them, they may lie on the GPU already, which cannot be
    pinned.
    """
    loader = cfg.get('train_dataloader') or {}
    if get_device() == 'cuda' and loader.get('num_workers'):
        loader.setdefault('pin_memory', True)


def build_runner(cfg: Config) -> Runner:
    """Build the runner that the config names, mmengine's by default."""
    _pin_memory(cfg)
    if 'runner_type' in cfg:
        return RUNNERS.build(cfg)
    return Runner.from_cfg(cfg)
