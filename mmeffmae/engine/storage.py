# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""A local storage backend whose files are whole or absent."""
import contextlib
import os
import shutil
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

        Raises:
            OSError: It cannot be written, say to a full or read-only disk;
                what was there stays.
        """
        path = Path(filepath)
        temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, 'wb') as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as error:
            _remove(temporary)
            raise OSError(error.errno, f'{error.strerror}: {path} '
                          f'({len(obj):,} bytes, {_free(path.parent)} free) '
                          'cannot be written. Files written before are whole: '
                          'make room and give the command again (tools/train.py: '
                          'with --resume), or choose another --work-dir') from error
        except BaseException:
            _remove(temporary)
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


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # read-only: the first error tells more
        path.unlink(missing_ok=True)


def _free(folder: Path) -> str:
    try:
        return f'{shutil.disk_usage(folder).free:,}'
    except OSError:
        return 'unknown'


def _sync_directory(directory: Path) -> None:
    """Make a rename durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
