# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""What a result file says about where its numbers come from."""
import hashlib
import json
import shlex
import sys
from datetime import datetime, timezone
from os import PathLike
from pathlib import Path
from typing import Any, Union

import torch
from mmengine.config import Config

from mmeffmae.engine.hooks.environment import describe_environment

#: Settings that say where and under which seed a run happens, not what it is.
_CIRCUMSTANCES = ('work_dir', 'resume', 'load_from', 'launcher', 'randomness',
                  'visualizer', 'vis_backends', 'log_level', 'experiment_name')


def config_hash(config: Config) -> str:
    """Twelve hexadecimal digits that name a resolved config.

    The seed, the work directory and other circumstances of a run do not
    count, nor does the order of keys; of a data folder its name counts, but
    not where it lies.
    """
    settings = {
        name: value
        for name, value in config.to_dict().items()
        if name not in _CIRCUMSTANCES
    }
    text = json.dumps(_without_places(settings), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _without_places(value: Any, name: str = '') -> Any:
    if isinstance(value, dict):
        return {key: _without_places(item, key) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_places(item) for item in value]
    return Path(value).name if name == 'data_root' and value else value


def file_hash(path: Union[str, PathLike]) -> str:
    """Twelve hexadecimal digits that name the content of a file."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:12]


def provenance(device: Union[str, torch.device] = 'cpu') -> dict:
    """Command line, UTC date, device, versions and machine of this process."""
    return dict(
        command=shlex.join(['python', *sys.argv]),
        date=datetime.now(timezone.utc).isoformat(timespec='seconds'),
        device=str(device),
        **describe_environment())


def write_json(result: dict, path: Union[str, PathLike]) -> None:
    """Write a result file; missing folders are made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + '\n')
