# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Folders that people have: every file is read, or skipped and counted."""
import os
import random
import signal
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmeffmae.datasets import UnlabelledImages

FOLDERS = 40
SECONDS = 30


def picture(draw: random.Random, mode: str = 'RGB', size=None) -> Image.Image:
    size = size or (draw.randint(1, 60), draw.randint(1, 60))
    rng = np.random.default_rng(draw.randrange(2**32))
    return Image.fromarray(
        rng.integers(0, 256, (size[1], size[0], 3), dtype='u1')).convert(mode)


def good(path: Path, draw: random.Random) -> None:
    suffix, mode = draw.choice([
        ('.jpg', 'RGB'), ('.JPG', 'L'), ('.jpeg', 'CMYK'), ('.png', 'RGB'),
        ('.png', 'RGBA'), ('.png', 'P'), ('.png', '1'), ('.png', 'LA'), ('.bmp', 'RGB'),
        ('.webp', 'RGB'), ('.tif', 'RGB'), ('.tiff', 'L')])
    picture(draw, mode).save(path.with_name(path.name + suffix))


def cut(path: Path, draw: random.Random) -> None:
    file = path.with_suffix('.jpg')
    picture(draw, size=(50, 50)).save(file)
    os.truncate(file, draw.randrange(file.stat().st_size - 2))


def flipped(path: Path, draw: random.Random) -> None:
    """Random bytes changed: readable or not, but never a hang."""
    file = path.with_suffix(draw.choice(['.png', '.jpg', '.tif', '.webp', '.bmp']))
    picture(draw, size=(50, 50)).save(file)
    data = bytearray(file.read_bytes())
    for _ in range(draw.randint(1, 30)):
        data[draw.randrange(len(data))] = draw.randrange(256)
    file.write_bytes(data)


def no_image(path: Path, draw: random.Random) -> None:
    path.with_suffix('.jpg').write_bytes(
        draw.choice([b'', b'text', b'\xff\xd8\xff\xd9', bytes(1000), b'GIF89a',
                     b'<html>', b'\x89PNG\r\n\x1a\n', draw.randbytes(5000)]))


def bomb(path: Path, draw: random.Random) -> None:
    """A header that claims 60,000 by 60,000 pixels."""
    def chunk(name: bytes, data: bytes) -> bytes:
        body = name + data
        return struct.pack('>I', len(data)) + body + struct.pack('>I', zlib.crc32(body))
    path.with_suffix('.png').write_bytes(
        b'\x89PNG\r\n\x1a\n'
        + chunk(b'IHDR', struct.pack('>IIBBBBB', 60000, 60000, 8, 2, 0, 0, 0))
        + chunk(b'IDAT', zlib.compress(bytes(1000))) + chunk(b'IEND', b''))


def pipe(path: Path, draw: random.Random) -> None:
    os.mkfifo(path.with_suffix('.jpg'))


def device(path: Path, draw: random.Random) -> None:
    path.with_suffix('.png').symlink_to(draw.choice(['/dev/zero', '/dev/null']))


def dangling(path: Path, draw: random.Random) -> None:
    path.with_suffix('.jpg').symlink_to('nowhere.jpg')


def folder_like_a_file(path: Path, draw: random.Random) -> None:
    path.with_suffix('.jpg').mkdir()


def loop(path: Path, draw: random.Random) -> None:
    """Two links upwards: followed without end, 2^40 folders."""
    for name in 'ab':
        path.with_name(f'{path.name}{name}').symlink_to(path.parent)


def odd_name(path: Path, draw: random.Random) -> None:
    name = draw.choice([b'sp ace', 'ümläut'.encode(), b'new\nline', b'\xff\xfe',
                        b"quo'te\"", b'per%cent', b'star*', b'[a]', b'-rf'])
    image = picture(draw)
    with open(os.path.join(os.fsencode(path.parent), name + b'.png'), 'wb') as file:
        image.save(file, 'PNG')


def hidden(path: Path, draw: random.Random) -> None:
    picture(draw).save(path.with_name(f'.{path.name}.png'))


def deep(path: Path, draw: random.Random) -> None:
    folder = path / Path(*['d'] * draw.randint(1, 60))
    folder.mkdir(parents=True)
    picture(draw).save(folder / 'x.png')


MAKERS: tuple[Callable[[Path, random.Random], None], ...] = (
    good, good, good, cut, flipped, flipped, no_image, bomb, pipe, device, dangling,
    folder_like_a_file, loop, odd_name, hidden, deep)


@pytest.fixture(autouse=True)
def no_hang():
    def stop(number, frame):
        pytest.fail(f'nothing came within {SECONDS} s')
    previous = signal.signal(signal.SIGALRM, stop)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


def read_all(folder: Path) -> tuple[int, int]:
    """Number of images that are read and that are skipped."""
    dataset = UnlabelledImages(
        data_root=str(folder), max_unreadable=0.99,
        pipeline=[dict(type='mmeffmae.LoadImage'),
                  dict(type='mmpretrain.Resize', scale=8),
                  dict(type='mmpretrain.PackInputs')])
    results = [dataset.prepare_data(i) for i in range(len(dataset))]
    for result in results:
        assert result is None or result['inputs'].shape == (3, 8, 8)
    skipped = sum(result is None for result in results)
    assert skipped == dataset._failures
    return len(results) - skipped, skipped


def test_fuzzed_folders(tmp_path, capsys):
    counts: Counter[str] = Counter()
    for number in range(FOLDERS):
        draw, root = random.Random(number), tmp_path / str(number)
        places = [root, root / 'sub', root / 'sub/sub']
        places[-1].mkdir(parents=True)
        makers = draw.choices(MAKERS, k=draw.randint(0, 12))
        for i, maker in enumerate(makers):
            maker(draw.choice(places) / f'{i}', draw)
        signal.alarm(SECONDS)
        try:
            read, skipped = read_all(root)
        except FileNotFoundError:
            assert not set(makers) & {good, cut, no_image, bomb}
            counts['folders without images, refused'] += 1
            continue
        expected = sum(maker in (good, odd_name, deep) for maker in makers)
        assert expected <= read <= expected + makers.count(flipped) + makers.count(
            no_image), (number, makers)
        counts['images read'] += read
        counts['files skipped and counted'] += skipped
    with capsys.disabled():
        print(f'\n{FOLDERS} fuzzed folders: ' + ', '.join(
            f'{count} {name}' for name, count in counts.items()))
