# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""A local storage backend whose files are whole or absent."""
import os
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

#: Name for ``backend_args=dict(backend=...)``.
ATOMIC_BACKEND = 'mmeffmae_atomic'


@register_backend(ATOMIC_BACKEND)
class AtomicLocalBackend(LocalBackend):
    """mmengine's ``LocalBackend`` with atomic, durable writes.

    A file is written under a temporary name in the same directory, synced to
    disk and renamed. Whenever the process or the machine stops, the old file
    or the new one is there in full.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes.

        Args:
            obj: Content of the file.
            filepath: Path to write; missing directories are made.
        """
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
        try:
            with open(temporary, 'wb') as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_directory(path.parent)

    def put_text(self,
                 obj: str,
                 filepath: str | Path,
                 encoding: str = 'utf-8') -> None:
        """Write text; see :meth:`put`."""
        self.put(obj.encode(encoding), filepath)

    @staticmethod
    def remove_leftovers(directory: str | Path) -> None:
        """Remove temporary files of writers that were killed."""
        for temporary in Path(directory).glob('.*.tmp'):
            temporary.unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    """Make a rename durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
