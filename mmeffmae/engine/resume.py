# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""What a run continues from, and with which batch on other ranks."""
import math
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import find_latest_checkpoint

from mmeffmae.checkpoint.loading import CheckpointError, load_checkpoint_safely

#: Names that checkpoints of a run have, best ones left out.
_PATTERNS = ('epoch_*.pth', 'iter_*.pth')


def last_usable_checkpoint(work_dir: str) -> tuple[Path | None, dict, list[str]]:
    """The newest whole checkpoint of a run.

    That is the one which ``last_checkpoint`` names, also after its folder was
    moved. Where it is damaged or missing, it is the one with the most
    iterations among the others.

    Args:
        work_dir: Folder of the run; it may not exist yet.

    Returns:
        The file, or None where the run has written none; its ``meta``; and
        what was wrong with newer files.

    Raises:
        CheckpointError: There are checkpoints, and none of them can be used.
    """
    folder, problems = Path(work_dir), []
    named = _named(folder)
    if named is not None:
        try:
            return named, read_meta(named), []
        except (CheckpointError, OSError) as error:
            problems.append(str(error))
    found = []
    for file in {f for p in _PATTERNS for f in folder.glob(p)} - {named}:
        try:
            meta = read_meta(file)
            found.append((meta.get('iter', -1), str(file), meta))
        except (CheckpointError, OSError) as error:
            problems.append(str(error))
    if found:
        _, path, meta = max(found, key=lambda entry: entry[:2])
        return Path(path), meta, problems
    if problems:
        raise CheckpointError(
            f'{folder} has no checkpoint that can be used: '
            + '; '.join(problems) + '. Give another one with --resume FILE, or '
            'start anew in another --work-dir')
    return None, {}, []


def _named(folder: Path) -> Path | None:
    """The file that ``last_checkpoint`` names, in its folder as it is now."""
    if not (folder / 'last_checkpoint').is_file():
        return None
    path = Path(find_latest_checkpoint(str(folder)) or '?')
    moved = folder / path.name
    return moved if not path.is_file() and moved.is_file() else path


def read_meta(path: Path) -> dict[str, Any]:
    """The ``meta`` of a checkpoint that a run can continue from.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointError: It is damaged, or of another kind.
    """
    content = load_checkpoint_safely(path, map_location='meta')
    if 'optimizer' not in content or 'iter' not in content.get('meta', {}):
        raise CheckpointError(
            f'checkpoint {path} holds no optimizer state or no iteration, so '
            'a run cannot continue from it: start from its weights with '
            '--init or load_from')
    return content['meta']


def keep_effective_batch(cfg: Config, meta: dict[str, Any],
                         world_size: int) -> str | None:
    """Let a run go on with its batch on another number of ranks.

    Every rank loads its share of the former batch. Where that is more than
    the config's ``batch_size``, which fits the device, it is computed in parts
    whose gradients are accumulated. Iterations, epochs, schedules and the
    images of each update stay the same.

    Args:
        cfg: A training config; changed in place.
        meta: Of the checkpoint that is resumed.
        world_size: Number of ranks now.

    Returns:
        What is done or has changed, a line for the log; None if nothing.
    """
    loader = cfg.train_dataloader
    if 'world_size' not in meta or 'batch_size' not in loader:
        return None
    before = f'{meta["batch_size"]} images on each of {meta["world_size"]} ranks'
    total, configured = meta['world_size'] * meta['batch_size'], loader.batch_size
    if configured * world_size == total:
        return None
    changed = (f'resumed with {configured} images on each of {world_size} ranks '
               f'instead of {before}: the effective batch is {world_size * configured} '
               f'instead of {total}, and the learning rate is the checkpoint\'s')
    if configured != meta.get('configured_batch_size', meta['batch_size']):
        return changed
    if total % world_size or 'optimizer' not in cfg.optim_wrapper:
        return changed
    share = total // world_size
    parts = math.ceil(share / configured)
    loader.batch_size = share
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), dict(
        type='mmeffmae.MicroBatchHook', parts=parts,
        configured_batch_size=configured)]
    return (f'resumed on {world_size} ranks instead of {meta["world_size"]}: each '
            f'takes {share} images an iteration in {parts} part(s), so the effective '
            f'batch, the schedule and the images of an update stay as with {before}; '
            'masks and crops of an image may differ, since ranks draw their own')
