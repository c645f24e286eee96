# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Skip, count and list images that cannot be read."""
import logging
from pathlib import Path
from typing import Any

from mmengine.logging import MMLogger, print_log
from torch.utils.data import get_worker_info

from .transforms.load_image import UnreadableImage

#: Reads before which the share of unreadable images is not judged.
_MIN_READS = 200


def _list_file() -> Path | None:
    """``unreadable_images.txt`` beside the run's log file, if it has one."""
    for handler in MMLogger.get_current_instance().handlers:
        if isinstance(handler, logging.FileHandler):
            return Path(handler.baseFilename).with_name('unreadable_images.txt')
    return None


class SkipUnreadable:
    """Mixin for a dataset whose pipeline loads with one of :mod:`.transforms`.

    In training another sample, drawn from numpy's generator, takes the place
    of an unreadable one. Under keyed randomness that generator was seeded for
    the sample, so the replacement is the same in every run. Each file is
    warned of once and appended to ``unreadable_images.txt`` beside the run's
    log. In ``test_mode`` the error is passed on.

    Each data-loading worker counts for itself, from the start of its life.

    Args:
        max_unreadable: Largest tolerated share of unreadable images among
            those read, judged on at least 200 reads. 0 tolerates none.

    Raises:
        RuntimeError: On reading a sample, once the share is exceeded.
    """

    def __init__(self, *args: Any, max_unreadable: float = 0.1,
                 **kwargs: Any) -> None:
        if not 0 <= max_unreadable < 1:
            raise ValueError(
                f'max_unreadable {max_unreadable} is no share of images '
                f'({type(self).__name__}): use a number from 0 up to, but '
                'not including, 1')
        self.max_unreadable = max_unreadable
        self._reads = 0
        self._failures = 0
        self._reported: set[str] = set()
        super().__init__(*args, **kwargs)

    def prepare_data(self, idx: int) -> Any:
        """The sample, or None if its image is unreadable."""
        self._reads += 1
        try:
            return super().prepare_data(idx)  # type: ignore[misc]
        except UnreadableImage as error:
            if self.test_mode:  # type: ignore[attr-defined]
                raise
            self._failures += 1
            self._report(str(error))
            self._check_share(error)
            return None

    def _report(self, problem: str) -> None:
        if problem in self._reported:
            return
        self._reported.add(problem)
        worker = get_worker_info()
        place = '' if worker is None else f' by worker {worker.id}'
        print_log(
            f'Skipped an unreadable image, number {len(self._reported)} found'
            f'{place} in {self._reads} reads: {problem}',
            logger='current', level=logging.WARNING)
        path = _list_file()
        if path is not None:
            with path.open('a', encoding='utf-8') as file:
                file.write(problem + '\n')

    def _check_share(self, last: UnreadableImage) -> None:
        if self._failures > self.max_unreadable * max(self._reads, _MIN_READS):
            raise RuntimeError(
                f'{self._failures} of {self._reads} images read were '
                f'unreadable, more than max_unreadable={self.max_unreadable} '
                f'({type(self).__name__}); the last one is {last}. Repair or '
                'remove the files warned of above, or raise max_unreadable')
