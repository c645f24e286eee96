# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""What is in a folder of images: counts, sizes, kinds, broken files, repeats."""
import os
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional, Union

import numpy as np
from PIL import Image

from mmeffmae.datasets.transforms.load_bands import read_bands
from mmeffmae.datasets.transforms.load_image import LoadImage, UnreadableImage
from mmeffmae.datasets.unlabelled import EXTENSIONS, check_folder, walk_files

from .header import Header, read_header
from .near_duplicates import difference_hash, near_duplicate_groups

#: Pixels of the largest image that is read: Pillow's limit against files that
#: unpack to more than memory holds.
MAX_PIXELS: int = Image.MAX_IMAGE_PIXELS or 89_478_485
#: Pixels of the shortest side of an image that is read; smaller ones are icons.
MIN_SIDE = 32
_ENDINGS = (*EXTENSIONS, '.npy')
#: Endings of pictures that are not read, which a user may expect to be.
_OTHER_PICTURES = (
    '.gif', '.heic', '.heif', '.avif', '.jp2', '.jxl', '.cr2', '.cr3', '.nef',
    '.arw', '.dng', '.raf', '.psd', '.svg', '.mp4', '.mov', '.avi', '.hdr', '.exr')


@dataclass
class Survey:
    """What :func:`survey_folder` found.

    Attributes:
        folder: The folder.
        names: Images that can be used, relative to the folder, sorted.
        headers: Of these.
        skipped: ``(name, reason)`` of pictures that cannot.
        other_files: Number of files that are no pictures, by ending.
        channels: Bands of the images as they will be read.
        photographs: Whether they are read as 8-bit colour, by the stack's loader.
        kind: Type of the values otherwise.
        duplicates: Groups of near-duplicates, positions in ``names``.
        mean: Of each band, over images, RGB for three bands; not of photographs,
            which are normalised as usual.
        std: The same.
    """
    folder: Path
    names: list[str] = field(default_factory=list)
    headers: list[Header] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    other_files: Counter = field(default_factory=Counter)
    channels: int = 3
    photographs: bool = True
    kind: str = 'uint8'
    duplicates: list[list[int]] = field(default_factory=list)
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)

    @property
    def short_sides(self) -> list[int]:
        """Shorter side of every image, in pixels."""
        return [min(header.width, header.height) for header in self.headers]

    @property
    def notes(self) -> Counter:
        """Number of images by what reading them changes."""
        notes: Counter = Counter()
        for header in self.headers:
            notes.update(header.notes)
            if self.photographs and header.kind != 'uint8':
                notes[f'{header.kind}, read with 8 bits'] += 1
            if self.photographs and header.bands == 1:
                notes['grey, read as colour'] += 1
        return notes

    @property
    def num_repeats(self) -> int:
        """Images that nearly repeat an earlier one."""
        return sum(len(group) - 1 for group in self.duplicates)

    def without_repeats(self) -> list[str]:
        """The names without all but the first of each group."""
        repeats = {i for group in self.duplicates for i in group[1:]}
        return [name for i, name in enumerate(self.names) if i not in repeats]

    def rows(self) -> list[tuple[str, str]]:
        """What and how much, for the terminal and the report."""
        rows = [('images that can be used', f'{len(self.names):,}')]
        if self.names:
            widths = [header.width for header in self.headers]
            heights = [header.height for header in self.headers]
            sides = self.short_sides
            rows += [
                ('width x height, median',
                 f'{statistics.median(widths):.0f} x '
                 f'{statistics.median(heights):.0f} px'),
                ('shorter side, least to most', f'{min(sides)} to {max(sides)} px'),
                ('kind', '8-bit colour' if self.photographs else
                 f'{self.channels} band{"s" * (self.channels > 1)} of {self.kind}'),
            ]
        rows += [(note, f'{count:,}') for note, count in self.notes.most_common()]
        if self.names:
            rows.append(('near-duplicates of another image', f'{self.num_repeats:,}'))
        rows.append(('skipped', f'{len(self.skipped):,}'))
        if self.other_files:
            rows.append(('files that are no pictures', ', '.join(
                f'{count} {ending}' for ending, count
                in self.other_files.most_common(6))))
        return rows


def survey_folder(
    folder: Union[str, os.PathLike],
    channels: Optional[int] = None,
    min_side: int = MIN_SIDE,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Survey:
    """Read every image of a folder and its sub-folders once.

    The most frequent kind of image decides how all are read, and images of
    another kind are skipped: photographs (8 bits; grey, palettes, CMYK and
    alpha become colour, other 16-bit images of up to three bands 8 bits) or
    images of any number of bands and bits, of which mean and standard deviation
    are measured. Photographs that are all grey count as images of one band.

    Args:
        folder: Local folder.
        channels: Number of bands, instead of the most frequent one; 3 reads
            photographs.
        min_side: Pixels below which an image is skipped.
        progress: Called with the number of images read and of all.

    Raises:
        FileNotFoundError: There is no such folder.
    """
    root = Path(folder).expanduser()
    check_folder(str(root), 'survey_folder')
    survey = Survey(root)
    found = _headers(root, survey, min_side)
    if channels is not None:
        found = {name: header.with_bands(channels) for name, header in found.items()}
    survey.photographs, survey.channels, survey.kind = _common_kind(
        list(found.values()), channels)
    fitting = {
        name: header for name, header in found.items() if _fits(survey, name, header)}
    _read(survey, fitting, progress)
    survey.skipped.sort()
    return survey


def _headers(root: Path, survey: Survey, min_side: int) -> dict[str, Header]:
    """Headers of what may be used; the rest is noted in the survey."""
    found = {}

    def unreachable(name: str, reason: str) -> None:
        survey.skipped.append((_printable(name), reason))

    for name in sorted(walk_files(str(root), unreachable)):
        ending = Path(name).suffix.lower()
        if ending in _OTHER_PICTURES:
            survey.skipped.append((
                _printable(name), f'{ending} is not read: convert it to JPEG or PNG'))
        elif ending not in _ENDINGS:
            survey.other_files[ending or 'without ending'] += 1
        elif reason := _bad_name(name):
            survey.skipped.append((_printable(name), reason))
        else:
            try:
                header = read_header(root / name)
            except UnreadableImage as error:
                survey.skipped.append((name, _reason(error)))
                continue
            if reason := _bad_size(header, min_side):
                survey.skipped.append((name, reason))
            else:
                found[name] = header
    return found


def _printable(name: str) -> str:
    return name.encode('utf-8', 'backslashreplace').decode().replace('\n', '\\n')


def _bad_name(name: str) -> str:
    """Lists of images have a name a line, in UTF-8."""
    if '\n' in name or '\r' in name:
        return 'a line break in its name: rename it'
    try:
        name.encode('utf-8')
    except UnicodeEncodeError:
        return 'its name is not UTF-8: rename it'
    return ''


def _bad_size(header: Header, min_side: int) -> str:
    size = f'{header.width} x {header.height} px'
    if header.width * header.height > MAX_PIXELS:
        return (f'too large, {size} (more than {MAX_PIXELS / 1e6:.0f} megapixels): '
                'scale it down or cut it into tiles')
    if min(header.width, header.height) < min_side:
        return f'too small, {size} (a side of less than {min_side} px)'
    return ''


def _reason(error: UnreadableImage) -> str:
    """What stands after the path in ``path: reason``."""
    return str(error).partition(': ')[2] or str(error)


def _common_kind(
    headers: Sequence[Header], channels: Optional[int]
) -> tuple[bool, int, str]:
    """Whether to read photographs, the number of bands, and their type."""
    photographs = [header for header in headers if header.photograph]
    others = Counter((header.bands, header.kind) for header in headers
                     if not header.photograph)
    if channels is not None:
        others = Counter({(bands, kind): count for (bands, kind), count
                          in others.items() if bands == channels})
        photographs = photographs if channels in (1, 3) else []
    if not others or others.most_common(1)[0][1] <= len(photographs):
        grey = channels == 1 or (channels is None and photographs and all(
            header.bands == 1 for header in photographs))
        return (False, 1, 'uint8') if grey else (True, channels or 3, 'uint8')
    (bands, kind), _ = others.most_common(1)[0]
    return False, bands, kind


def _fits(survey: Survey, name: str, header: Header) -> bool:
    if survey.photographs:
        fits = header.bands in (1, 3) and header.kind in ('uint8', 'uint16') \
            and not name.lower().endswith('.npy')
    else:
        fits = (header.bands, header.kind) == (survey.channels, survey.kind)
    if not fits:
        wanted = ('photographs' if survey.photographs else
                  f'{survey.channels} of {survey.kind}')
        survey.skipped.append((
            name, f'{header.bands} bands of {header.kind}, where the folder has '
            f'{wanted}'))
    return fits


def _read(survey: Survey, headers: dict[str, Header],
          progress: Callable[[int, int], None]) -> None:
    """Decode the images, as training will; several at a time."""
    hashes: list[int] = []
    moments: list[tuple[np.ndarray, np.ndarray]] = []
    load = LoadImage()

    def decode(name: str) -> Union[tuple, str]:
        """Hash, mean and mean square, or why it cannot be read."""
        path = survey.folder / name
        try:
            image = (load.transform(dict(img_path=str(path)))['img']
                     if survey.photographs else read_bands(path))
        except UnreadableImage as error:
            return _reason(error)
        if image.shape[2] != survey.channels:
            return f'{image.shape[2]} bands, where the folder has {survey.channels}'
        if survey.photographs:
            # Moments of 12 megapixels take a second and 270 MB, for each core.
            return difference_hash(image), None
        return difference_hash(image), (
            image.mean((0, 1), dtype=np.float64),
            np.square(image, dtype=np.float64).mean((0, 1)))

    # Decoding releases the interpreter's lock.
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        results = zip(headers, pool.map(decode, headers))
        for done, (name, result) in enumerate(results, 1):
            progress(done, len(headers))
            if isinstance(result, str):
                survey.skipped.append((name, result))
                continue
            survey.names.append(name)
            survey.headers.append(headers[name])
            hashes.append(result[0])
            if result[1] is not None:
                moments.append(result[1])
    survey.duplicates = near_duplicate_groups(hashes)
    if moments:
        mean, square = np.mean(moments, axis=0)
        std = np.sqrt(np.maximum(square - mean**2, 1e-12))
        order = slice(None, None, -1) if survey.channels == 3 else slice(None)
        survey.mean = [round(float(value), 4) for value in mean[order]]
        survey.std = [round(float(value), 4) for value in std[order]]
