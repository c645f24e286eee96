# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import logging
import struct

import numpy as np
import pytest
from mmengine.logging import MMLogger
from PIL import Image
from torch.utils.data import DataLoader

from mmeffmae.datasets import UnlabelledImages
from mmeffmae.datasets.samplers import KeyedIndex
from mmeffmae.datasets.transforms import UnreadableImage
from mmeffmae.registry import DATASETS

PIPELINE = [dict(type='mmeffmae.SeedSample'), dict(type='mmeffmae.LoadImage')]


def write_images(folder, count, suffix='.jpg', size=48):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        pixels = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f'{i:03d}{suffix}')


def truncate(path, share=0.6):
    data = path.read_bytes()
    path.write_bytes(data[:int(len(data) * share)])


def build(folder, **kwargs):
    return DATASETS.build(dict(
        type='mmeffmae.UnlabelledImages', data_root=str(folder),
        **{'pipeline': PIPELINE, **kwargs}))


def names(sample):
    return sample['img_path'].rsplit('/', 1)[1]


@pytest.fixture
def run_log(tmp_path):
    """A run's logger, whose folder receives the list of unreadable files."""
    (tmp_path / 'log').mkdir()
    name = f'test-{tmp_path.name}'
    logger = MMLogger.get_instance(
        name, logger_name=name, log_file=str(tmp_path / 'log/run.log'))
    yield tmp_path / 'log'
    MMLogger._instance_dict.pop(name)
    for handler in list(logger.handlers):
        if isinstance(handler, logging.FileHandler):
            handler.close()


def test_data_root_alone_finds_images_at_any_depth(tmp_path):
    write_images(tmp_path / 'a/b', 2)
    write_images(tmp_path / 'elsewhere', 1, '.PNG')
    photos = tmp_path / 'photos'
    write_images(photos, 1, '.webp')
    (photos / 'linked').symlink_to(tmp_path / 'a')
    (photos / 'one.JPEG').symlink_to(tmp_path / 'a/b/000.jpg')
    (photos / 'two.png').symlink_to(tmp_path / 'elsewhere/000.PNG')
    (photos / 'notes.txt').write_text('no image')
    dataset = build(photos)
    found = [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
    assert [f.removeprefix(f'{photos}/') for f in found] == [
        '000.webp', 'linked/b/000.jpg', 'linked/b/001.jpg', 'one.JPEG',
        'two.png']
    assert all(dataset[i]['img'].shape == (48, 48, 3) for i in range(5))


@pytest.mark.parametrize('make, reason', [
    (False, 'does not exist'), (True, 'hold no image')])
def test_missing_or_empty_folder(tmp_path, make, reason):
    folder = tmp_path / 'photos'
    if make:
        folder.mkdir()
        (folder / 'notes.txt').write_text('no image')
    with pytest.raises(FileNotFoundError) as error:
        build(folder)
    for part in (str(folder), reason, 'UnlabelledImages', 'data_root=FOLDER',
                 "data_prefix=''"):
        assert part in str(error.value)


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.bmp', '.webp', '.tif'])
def test_truncated_file_is_refused_whatever_its_format(tmp_path, suffix):
    write_images(tmp_path, 1, suffix)
    dataset = build(tmp_path, test_mode=True)
    assert dataset[0]['img'].shape == (48, 48, 3)
    truncate(tmp_path / f'000{suffix}', 0.9)
    with pytest.raises(UnreadableImage, match=f'000{suffix}: '):
        dataset[0]


@pytest.mark.parametrize('content, reason', [
    (b'', 'empty'), (b'\x00' * 500, 'not an image'), (None, 'No such file')])
def test_other_unreadable_files(tmp_path, content, reason):
    write_images(tmp_path, 1)
    dataset = build(tmp_path, test_mode=True)
    path = tmp_path / '000.jpg'
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(UnreadableImage, match=reason):
        dataset[0]


def test_header_that_claims_an_absurd_size(tmp_path):
    write_images(tmp_path, 1, '.bmp')
    path = tmp_path / '000.bmp'
    data = bytearray(path.read_bytes())
    data[18:26] = struct.pack('<ii', 60000, 60000)
    path.write_bytes(data)
    with pytest.raises(UnreadableImage, match='000.bmp'):
        build(tmp_path, test_mode=True)[0]


def test_jpeg_whose_end_mark_is_not_at_the_end_is_read(tmp_path):
    write_images(tmp_path, 1)
    path = tmp_path / '000.jpg'
    path.write_bytes(path.read_bytes() + b'\0' * 2000)  # a camera's trailer
    assert build(tmp_path, test_mode=True)[0]['img'].shape == (48, 48, 3)


def test_truncated_jpeg_is_replaced_deterministically(tmp_path, run_log):
    photos = tmp_path / 'photos'
    write_images(photos, 12)
    truncate(photos / '003.jpg')
    index = KeyedIndex(3, (0, 5, 2))
    dataset = build(photos, max_unreadable=0.9)
    np.random.seed(7)
    first = dataset[index]
    np.random.seed(8)  # the key decides, not the state around it
    again = build(photos)[index]
    assert names(first) != '003.jpg' and names(first) == names(again)
    others = {names(dataset[KeyedIndex(3, (0, 5, d))]) for d in range(20)}
    assert len(others) > 3 and '003.jpg' not in others
    # Two data sets found the file; each listed it once.
    listed = (run_log / 'unreadable_images.txt').read_text().splitlines()
    assert len(listed) == 2
    assert all(line.startswith(f'{photos}/003.jpg: ') for line in listed)
    assert '003.jpg' in (run_log / 'run.log').read_text()


class Keyed:
    """Sampler stand-in: indices that carry keys."""

    def __init__(self, size):
        self.size = size

    def __iter__(self):
        return (KeyedIndex(i, (0, 0, i)) for i in range(self.size))

    def __len__(self):
        return self.size


@pytest.mark.parametrize('workers', [0, 2])
def test_loader_gives_the_same_samples_with_any_number_of_workers(
        tmp_path, run_log, workers):
    photos = tmp_path / 'photos'
    write_images(photos, 12)
    truncate(photos / '003.jpg')
    (photos / '010.jpg').write_bytes(b'')
    dataset = build(photos)
    loader = DataLoader(
        dataset, batch_size=4, sampler=Keyed(12), num_workers=workers,
        collate_fn=lambda samples: [names(s) for s in samples])
    read = sum(loader, [])
    expected = [f'{i:03d}.jpg' for i in range(12)]
    for i in (3, 10):
        expected[i] = names(build(photos)[KeyedIndex(i, (0, 0, i))])
    assert read == expected
    listed = (run_log / 'unreadable_images.txt').read_text()
    assert '003.jpg' in listed and '010.jpg' in listed


@pytest.mark.parametrize('workers', [0, 2])
def test_too_many_unreadable_images_stop_the_run(tmp_path, workers):
    write_images(tmp_path, 60)
    for i in range(30):
        truncate(tmp_path / f'{i:03d}.jpg')
    loader = DataLoader(build(tmp_path), batch_size=4, sampler=Keyed(60),
                        num_workers=workers, collate_fn=len)
    # More than a tenth of the least 200 reads.
    with pytest.raises(RuntimeError, match='21 of .* read were unreadable') as e:
        list(loader)
    assert 'max_unreadable=0.1' in str(e.value)
    assert 'Repair or remove' in str(e.value)


def test_max_unreadable_is_respected(tmp_path):
    write_images(tmp_path, 10)
    truncate(tmp_path / '000.jpg')
    with pytest.raises(RuntimeError, match='1 of 1 images'):
        build(tmp_path, max_unreadable=0)[0]
    # One in ten is unreadable: a long run that tolerates it must not stop.
    np.random.seed(0)
    dataset = build(tmp_path, max_unreadable=0.2, pipeline=PIPELINE[1:])
    for i in range(1000):
        dataset[i % 10]
    with pytest.raises(ValueError, match='max_unreadable 1.5 .*UnlabelledImages'):
        UnlabelledImages(str(tmp_path), max_unreadable=1.5)
