# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""A folder of images as one tar file, read at any place.

The file is a plain tar, as webdataset and ``tar`` itself write and read. The
first member, which webdataset skips, lists sizes and names, so that opening an
archive of a million images reads one block of text and not a million headers.
Archives without it are read as well.
"""
import io
import os
import tarfile
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

_BLOCK = 512
#: webdataset skips names of this form.
_INDEX = '__index__/sizes.txt'


def pack(folder: Path, names: Sequence[str], path: Path) -> None:
    """Write files into an archive; equal files give equal bytes.

    Args:
        folder: Where the files lie.
        names: Their paths in the folder, which they keep.
        path: The archive; it appears when it is whole.

    Raises:
        ValueError: A name is longer than 255 bytes.
    """
    sizes = [(folder / name).stat().st_size for name in names]
    index = ''.join(f'{size} {name}\n' for size, name in zip(sizes, names)).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'{path.name}.partial')
    with tarfile.open(partial, 'w', format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(_member(_INDEX, len(index)), io.BytesIO(index))
        for name, size in zip(names, sizes):
            with open(folder / name, 'rb') as file:
                archive.addfile(_member(name, size), file)
    os.replace(partial, path)


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    return member


class TarArchive:
    """Random access to the members of a tar file; safe to use after a fork.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no whole tar file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        # Kept open: reads name their place and share no position.
        self._file = os.open(path, os.O_RDONLY)
        try:
            found = sorted(self._members())
        except tarfile.TarError as error:
            raise ValueError(f'{path} is no tar file ({error}): write it with '
                             'tools/data/pack_folder.py') from error
        self.names = [name for name, _, _ in found]
        self._places = np.array(
            [place for _, *place in found], dtype=np.int64).reshape(-1, 2)
        end = int(self._places.sum(axis=1).max(initial=0))
        if end > os.fstat(self._file).st_size:
            raise ValueError(
                f'{path} is cut short: {end} bytes are expected, '
                f'{os.fstat(self._file).st_size} are there: copy or pack it again')

    def read(self, name: str) -> bytes:
        """Content of a member.

        Raises:
            FileNotFoundError: There is none of this name.
        """
        row = bisect_left(self.names, name)
        if self.names[row:row + 1] != [name]:
            raise FileNotFoundError(f'{self.path} has no member {name!r}')
        offset, size = self._places[row].tolist()
        return os.pread(self._file, size, offset)

    def below(self, folder: str) -> list[str]:
        """Names of all members in a folder and its sub-folders, sorted."""
        prefix = f'{folder}/' if folder else ''
        first = bisect_left(self.names, prefix)
        last = bisect_left(self.names, f'{prefix}\U0010ffff') if prefix else None
        return self.names[first:last]

    def _members(self) -> Iterator[tuple[str, int, int]]:
        """Name, offset and size of every member."""
        with tarfile.open(self.path) as archive:
            first = archive.next()
            if first is None or first.name != _INDEX:
                members = [first, *archive] if first else []
                yield from ((m.name.removeprefix('./'), m.offset_data, m.size)
                            for m in members if m is not None and m.isfile())
                return
            offset = first.offset_data + _padded(first.size)
        index = os.pread(self._file, first.size, first.offset_data).decode()
        for line in index.splitlines():
            size, name = line.split(' ', 1)
            yield name, offset + _BLOCK, int(size)
            offset += _BLOCK + _padded(int(size))


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
