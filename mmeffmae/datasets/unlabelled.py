# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Any folder of images, without labels."""
import os
from collections.abc import Callable, Iterator, Sequence
from os.path import expanduser
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.fileio import (
    LocalBackend,
    exists,
    get_file_backend,
    isdir,
    join_path,
    list_from_file,
)

from mmeffmae.registry import DATASETS

from .skip_unreadable import SkipUnreadable

#: File name endings, in any case, that are taken for images.
EXTENSIONS = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff')
#: How a user points a config at the data.
MEND = ('pass --cfg-options train_dataloader.dataset.data_root=FOLDER (and '
         "train_dataloader.dataset.data_prefix='' where the config names a "
         'sub-folder), or link the data there (the built-in mini scenes are written '
         'by tools/make_mini_scenes.py)')


def check_folder(folder: str, owner: str) -> None:
    """Raise FileNotFoundError if ``folder`` is no folder.

    Args:
        folder: Local path or URI.
        owner: Who asks, for the message.
    """
    if not isdir(folder):
        raise FileNotFoundError(
            f'data folder {folder!r} does not exist ({owner}): {MEND}')


def find_images(folder: str, owner: str,
                extensions: Sequence[str] = EXTENSIONS) -> list[str]:
    """Paths of all images below ``folder``, relative to it, sorted.

    Sub-folders and symbolic links are followed, those to a folder above once;
    what is hidden and what is no regular file is not taken.

    Args:
        folder: Local path or URI.
        owner: Who asks, for the messages.
        extensions: Endings of image files, in lower case.

    Raises:
        FileNotFoundError: The folder does not exist or holds no image.
    """
    check_folder(folder, owner)
    backend = get_file_backend(folder, enable_singleton=True)
    files = (walk_files(folder) if isinstance(backend, LocalBackend) else
             backend.list_dir_or_file(folder, list_dir=False, recursive=True))
    images = sorted(f for f in files if f.lower().endswith(tuple(extensions)))
    if not images:
        raise FileNotFoundError(
            f'data folder {folder!r} and its sub-folders hold no image '
            f'({owner}; it looks for {", ".join(extensions)}): {MEND}')
    return images


def walk_files(
    root: str,
    unreachable: Callable[[str, str], None] = lambda name, reason: None,
) -> Iterator[str]:
    """Regular files below a local folder, relative to it; hidden ones are not.

    mmengine's listing follows links in circles until the system refuses.

    Args:
        root: The folder.
        unreachable: Called with the name of a folder or link behind which there
            may be files, and why they are not reached.
    """

    def refused(error: OSError) -> None:
        unreachable(os.path.relpath(error.filename, root),
                    f'a folder that cannot be read: {error.strerror}')

    above = {root: {os.path.realpath(root)}}
    for folder, folders, names in os.walk(root, onerror=refused, followlinks=True):
        seen = above.pop(folder)
        kept = []
        for name in folders:
            path = os.path.join(folder, name)
            real = os.path.realpath(path)
            if not name.startswith('.') and real not in seen:
                above[path] = seen | {real}
                kept.append(name)
        folders[:] = kept
        for name in names:
            path = os.path.join(folder, name)
            if name.startswith('.'):
                continue
            if os.path.isfile(path):
                yield os.path.relpath(path, root)
            elif not os.path.exists(path):
                unreachable(os.path.relpath(path, root), 'a link to nothing')


def read_list(file: str, owner: str) -> list[str]:
    """Names of images in a list, one a line.

    Args:
        file: Local path or URI.
        owner: Who asks, for the messages.

    Raises:
        FileNotFoundError: The list does not exist or is empty.
    """
    names = list_from_file(file) if exists(file) else []
    if not any(names):
        raise FileNotFoundError(
            f'list {file!r} does not exist or is empty ({owner}): write it '
            'with tools/data/subset_list.py')
    return [name for name in names if name]


@DATASETS.register_module()
class UnlabelledImages(SkipUnreadable, BaseDataset):
    """All images in a folder and its sub-folders; ``data_root`` is enough.

    A pipeline with ``mmeffmae.LoadImage`` or another of its loaders makes
    unreadable files skipped, counted and listed (see :class:`SkipUnreadable`).

    Args:
        data_root: The folder; ``~`` is expanded.
        data_prefix: Sub-folder of ``data_root`` to read.
        extensions: Endings of image files, in lower case.
        max_unreadable: Largest tolerated share of unreadable images.
        **kwargs: Other arguments of ``mmengine.dataset.BaseDataset``. An
            ``ann_file`` names the images to read, one a line, relative to
            the sub-folder; ``tools/data/subset_list.py`` writes such lists.

    Raises:
        FileNotFoundError: The folder or the list does not exist or holds no
            image.
    """

    def __init__(self, data_root: str, data_prefix: str = '',
                 extensions: Sequence[str] = EXTENSIONS,
                 **kwargs: Any) -> None:
        self.extensions = tuple(extensions)
        super().__init__(data_root=expanduser(data_root),
                         data_prefix=dict(img_path=data_prefix), **kwargs)

    def load_data_list(self) -> list[dict]:
        """One dict with ``img_path`` for each image."""
        folder, owner = self.data_prefix['img_path'], type(self).__name__
        names = (read_list(self.ann_file, owner) if self.ann_file else
                 find_images(folder, owner, self.extensions))
        return [dict(img_path=join_path(folder, name)) for name in names]
