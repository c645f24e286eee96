# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Share one list of work between processes of a machine."""
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def claim(path: Path, wait: bool) -> Iterator[bool]:
    """Hold a piece of work while the block runs.

    The kernel gives the claim back when the process ends, however it ends.

    Args:
        path: A file that stands for the work; made if needed, and kept.
        wait: Wait until whoever holds it has ended.

    Yields:
        Whether this process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
