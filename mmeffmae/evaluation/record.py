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

from mmeffmae.engine.hooks.environment import describe_environment
from mmeffmae.engine.storage import AtomicLocalBackend


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


def write_json(result: Any, path: Union[str, PathLike]) -> None:
    """Write a result file; it is there in full or not at all.

    Args:
        result: Plain values.
        path: Where; missing folders are made.

    Raises:
        OSError: It cannot be written; what was there stays.
    """
    AtomicLocalBackend().put_text(json.dumps(result, indent=2) + '\n', Path(path))
