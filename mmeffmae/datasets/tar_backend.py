# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Tar files as folders: ``data_root='tar://data/photographs.tar'``."""
from collections.abc import Iterator
from os.path import expanduser

from mmengine.fileio import BaseStorageBackend, register_backend

from .tar_archive import TarArchive


@register_backend('mmeffmae_tar', prefixes='tar')
class TarBackend(BaseStorageBackend):
    """mmengine's view of tar files, for any dataset that lists and reads.

    A path is ``tar://`` + the file, which ends with ``.tar`` + the place in
    it, such as ``tar://data/photographs.tar/train/dog/1.jpg``. An archive is
    opened once a process, by its first path.
    """

    def __init__(self) -> None:
        self._archives: dict[str, TarArchive] = {}

    def _split(self, path: str) -> tuple[str, str]:
        text = str(path).removeprefix('tar://').rstrip('/')
        file, mark, place = f'{text}/'.partition('.tar/')
        if not mark:
            raise ValueError(
                f'{path} names no tar file (TarBackend): write '
                'tar://FILE.tar, or tar://FILE.tar/FOLDER')
        return expanduser(f'{file}.tar'), place.rstrip('/')

    def _open(self, path: str) -> tuple[TarArchive, str]:
        file, place = self._split(path)
        if file not in self._archives:
            self._archives[file] = TarArchive(file)
        return self._archives[file], place

    def get(self, filepath: str) -> bytes:
        """Content of a member."""
        archive, place = self._open(filepath)
        return archive.read(place)

    def get_text(self, filepath: str, encoding: str = 'utf-8') -> str:
        """Content of a member as text."""
        return self.get(filepath).decode(encoding)

    def exists(self, filepath: str) -> bool:
        """Whether there is such a member or folder."""
        return self.isfile(filepath) or self.isdir(filepath)

    def isdir(self, filepath: str) -> bool:
        """Whether there is a member below this place."""
        try:
            archive, place = self._open(filepath)
        except FileNotFoundError:
            return False
        return not place or bool(archive.below(place))

    def isfile(self, filepath: str) -> bool:
        """Whether there is such a member."""
        try:
            self.get(filepath)
        except FileNotFoundError:
            return False
        return True

    def join_path(self, filepath: str, *filepaths: str) -> str:
        """Join a path and places in it."""
        return '/'.join([str(filepath).rstrip('/'), *filter(None, filepaths)])

    def list_dir_or_file(
        self,
        dir_path: str,
        list_dir: bool = True,
        list_file: bool = True,
        suffix: str | tuple[str, ...] | None = None,
        recursive: bool = False,
    ) -> Iterator[str]:
        """Places below a folder, relative to it, as mmengine's others do."""
        archive, place = self._open(dir_path)
        start = len(place) + 1 if place else 0
        folders = set()
        for name in archive.below(place):
            parts = name[start:].split('/')
            depth = len(parts) if recursive else 2
            for i in range(1, min(depth, len(parts))):
                folders.add('/'.join(parts[:i]))
            wanted = list_file and (recursive or len(parts) == 1)
            if wanted and (suffix is None or name.endswith(suffix)):
                yield name[start:]
        if list_dir:
            yield from sorted(folders)
