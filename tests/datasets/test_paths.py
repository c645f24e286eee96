# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Images by other ways than one file after the other: the same ones."""
import runpy
import sys
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmpretrain.datasets.transforms import RandomResizedCrop
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from mmeffmae.datasets.batched_crop import CropRanges, crop_batch, draw_crops
from mmeffmae.datasets.samplers import KeyedIndex
from mmeffmae.datasets.transforms import (
    LoadImage,
    LoadRandomResizedCrop,
    LoadReduced,
    UnreadableImage,
)
from mmeffmae.datasets.transforms.load_crop import jpeg_size
from mmeffmae.randomness import keyed_uniforms, seed_cpu

ROOT = Path(__file__).parents[2]
CROP = dict(scale=32, crop_ratio_range=(.2, 1.), backend='cv2', interpolation='bicubic')
TWO_STEPS = [dict(type='mmeffmae.LoadImage'),
             dict(type='mmpretrain.RandomResizedCrop', **CROP)]


@pytest.fixture(autouse=True)
def default_scope():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


def smooth(rng, height, width):
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Two classes of four photographs, 56 to 60 by 70 px, one of them a PNG."""
    root = tmp_path_factory.mktemp('data') / 'photographs'
    rng = np.random.default_rng(0)
    for i in range(8):
        place = root / 'train' / ('cat', 'dog')[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        smooth(rng, 56 + i // 2, 70).save(place / f'{i}{".png" if i == 3 else ".jpg"}')
    return root


def pack(monkeypatch, *arguments):
    name = str(ROOT / 'tools/data/pack_folder.py')
    monkeypatch.setattr(sys, 'argv', [name, *map(str, arguments)])
    runpy.run_path(name, run_name='__main__')


def batches(dataset, steps, **loader):
    """The inputs of an epoch of two batches."""
    pipeline = [dict(type='mmeffmae.SeedSample'), *steps,
                dict(type='mmpretrain.RandomFlip', prob=.5),
                dict(type='mmpretrain.PackInputs')]
    settings = dict(
        batch_size=4, num_workers=0,
        sampler=dict(type='mmeffmae.KeyedSampler', shuffle=True),
        collate_fn=dict(type='default_collate'),
        # mmengine collects garbage after it serialises, for a second.
        dataset=dict(dataset, pipeline=pipeline, serialize_data=False), **loader)
    return [batch['inputs'] for batch in Runner.build_dataloader(settings, seed=0)]


@pytest.mark.parametrize('kind', ['UnlabelledImages', 'LabelledImages'])
def test_all_exact_paths_give_the_same_batches(folder, kind, tmp_path, monkeypatch):
    pack(monkeypatch, folder, tmp_path / 'all.tar')
    with tarfile.open(tmp_path / 'foreign.tar', 'w') as archive:  # has no index
        archive.add(folder, '.')
    exact = [dict(type='mmeffmae.LoadRandomResizedCrop', max_reduction=1, **CROP)]
    found = [
        batches(
            dict(type=f'mmeffmae.{kind}', data_root=root, data_prefix='train'), steps)
        for root in (str(folder), f'tar://{tmp_path}/all.tar',
                     f'tar://{tmp_path}/foreign.tar')
        for steps in (TWO_STEPS, exact)
    ]
    assert len(found[0]) == 2 and found[0][0].shape == (4, 3, 32, 32)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other))


def test_archive_is_reproducible_and_refuses_what_is_broken(
        folder, tmp_path, monkeypatch):
    for name in ('a.tar', 'b.tar'):
        pack(monkeypatch, folder, tmp_path / name)
    data = (tmp_path / 'a.tar').read_bytes()
    assert data == (tmp_path / 'b.tar').read_bytes()
    with tarfile.open(tmp_path / 'a.tar') as archive:  # what others see
        names = archive.getnames()
        assert names[0].startswith('__') and names[1:] == sorted(
            str(f.relative_to(folder)) for f in folder.rglob('*.*'))
        for name in names[1:]:
            assert archive.extractfile(name).read() == (folder / name).read_bytes()
    (tmp_path / 'cut.tar').write_bytes(data[:len(data) // 2])
    (tmp_path / 'no.tar').write_bytes(b'text' * 300)
    for name, reason in (('cut', 'cut short'), ('no', 'no tar file')):
        with pytest.raises(ValueError, match=reason):
            batches(dict(type='mmeffmae.UnlabelledImages',
                         data_root=f'tar://{tmp_path}/{name}.tar'), TWO_STEPS)
    for root, prefix in (('a', 'val'), ('none', '')):
        with pytest.raises(FileNotFoundError, match='does not exist'):
            batches(dict(type='mmeffmae.UnlabelledImages', data_prefix=prefix,
                         data_root=f'tar://{tmp_path}/{root}.tar'), TWO_STEPS)


@pytest.mark.parametrize('turned', [False, True])
def test_reduced_decoding_is_close(tmp_path, turned):
    """Same box, and pixels of a smooth photograph within a few grey levels."""
    path = tmp_path / 'large.jpg'
    image = smooth(np.random.default_rng(1), 600, 800)
    exif = image.getexif()
    exif[0x0112] = 6 if turned else 1  # a camera held upright
    image.save(path, quality=95, **(dict(exif=exif) if turned else {}))
    flags = []
    decoders = {n: LoadRandomResizedCrop(max_reduction=n, **CROP) for n in (1, 8)}
    for key in range(12):
        crops = {}
        for n, transform in decoders.items():
            seed_cpu(key)
            found = transform(dict(img_path=str(path)))
            assert found['ori_shape'] == ((800, 600) if turned else (600, 800))
            crops[n] = found['img'].astype(float)
        flags.append(decoders[8]._reduction(decoders[8]._box((600, 800))))
        difference = abs(crops[1] - crops[8])
        assert crops[8].shape == (32, 32, 3)
        assert difference.mean() < 5 and difference.max() < 40
    assert set(flags) <= {4, 8} and 8 in flags
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(UnreadableImage, match='large.jpg'):
        decoders[8](dict(img_path=str(path)))
    assert jpeg_size(b'\x89PNG' + bytes(50)) is jpeg_size(b'\xff\xd8\xff') is None
    with pytest.raises(ValueError, match='max_reduction 3'):
        LoadRandomResizedCrop(32, max_reduction=3)


def test_batched_crop_is_opencv_s(folder):
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (6, 3, 40, 50), dtype=np.uint8))
    sizes = np.array([(40, 50), (31, 50), (40, 23), (17, 19), (40, 50), (9, 50)])
    boxes, flip = draw_crops(np.arange(6), sizes, CropRanges(area=(.05, 1.)))
    assert flip.any() and not flip.all()
    crops = crop_batch(images, torch.from_numpy(boxes), torch.from_numpy(flip), 16)
    for image, crop, box, mirror in zip(images, crops, boxes, flip):
        top, left, height, width = box
        cut = image.permute(1, 2, 0).numpy()[top:top + height, left:left + width]
        expected = cv2.resize(cut, (16, 16), interpolation=cv2.INTER_CUBIC)
        expected = expected[:, ::-1] if mirror else expected
        difference = crop.permute(1, 2, 0).numpy().astype(int) - expected
        assert abs(difference).max() <= 1


def test_crops_are_the_same_where_training_rounds_products():
    """DBP-MAE turns on TF32 for the whole process; crops are of its images."""
    found = []

    class Products(TorchDispatchMode):

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if 'bmm' in str(function):
                found.append(torch.get_float32_matmul_precision())
            return function(*args, **(kwargs or {}))

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision('high')
    try:
        with Products():
            crop_batch(torch.zeros(2, 3, 8, 8, dtype=torch.uint8),
                       torch.tensor(2 * [[0, 0, 8, 8]]), torch.tensor([True, False]), 4)
        assert found == 2 * ['highest']
        assert torch.get_float32_matmul_precision() == 'high'
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize('size', [(60, 80), (20, 100), (100, 20)])
def test_crops_have_the_distribution_of_mmpretrain_s(size):
    """The last two often leave no room, and fall back to the middle."""
    number = 4000
    boxes, flip = draw_crops(
        np.arange(number), np.tile(size, (number, 1)), CropRanges())
    theirs = RandomResizedCrop(8, crop_ratio_range=(.2, 1.))
    np.random.seed(0)
    empty = np.empty((*size, 3))
    expected = np.array([theirs.rand_crop_params(empty) for _ in range(number)])
    assert abs(flip.mean() - .5) < .03
    assert (boxes[:, :2] >= 0).all() and (boxes[:, :2] + boxes[:, 2:] <= size).all()
    scale = np.array([*size, *size])
    for statistic in (np.mean, np.std):
        difference = statistic(boxes, axis=0) - statistic(expected, axis=0)
        assert (abs(difference) / scale < .015).all()


def test_every_place_of_a_crop_is_as_likely():
    boxes, _ = draw_crops(
        np.arange(2000), np.full((2000, 2), 2), CropRanges((.25, .25), (1., 1.)))
    assert (boxes[:, 2:] == 1).all() and abs(boxes[:, :2].mean(axis=0) - .5).max() < .04


def test_uniforms_are_uniform_and_of_the_key_alone():
    found = keyed_uniforms(np.arange(2000), 5)
    assert found.shape == (2000, 5) and 0 <= found.min() < found.max() < 1
    assert abs(found.mean(axis=0) - .5).max() < .03
    assert abs(np.corrcoef(found.T) - np.eye(5)).max() < .08
    assert (keyed_uniforms(np.array([7, 3]), 5) == found[[7, 3]]).all()


def device_loader(folder, **settings):
    return dict(
        batch_size=4, num_workers=0,
        sampler=dict(type='mmeffmae.KeyedSampler', shuffle=True),
        collate_fn=dict(type='mmeffmae.whole_batch'),
        dataset=dict(
            type='mmeffmae.DeviceImages', scale=32,
            dataset=dict(type='mmeffmae.LabelledImages', data_root=str(folder),
                         data_prefix='train')), **settings)


def test_device_images(folder, tmp_path):
    loader = Runner.build_dataloader(device_loader(folder), seed=0)
    first, second = loader
    assert first['inputs'].shape == (4, 3, 32, 32)
    assert first['inputs'].dtype == torch.uint8 and first['data_samples'] is None
    dataset = loader.dataset
    assert dataset._pixels.shape == (8, 3, 70, 70) and len(dataset) == 8
    # A sample is of its key alone, whatever else is in its batch.
    index = KeyedIndex(5, (0, 1, 2))
    alone = dataset[index]['inputs']
    assert torch.equal(dataset.__getitems__([KeyedIndex(1, (0, 1, 3)), index])
                       ['inputs'][1], alone)
    assert not torch.equal(dataset[KeyedIndex(5, (0, 2, 2))]['inputs'], alone)
    with pytest.raises(ValueError, match='no key.*KeyedSampler'):
        dataset[5]


def test_device_images_refuse_workers_and_replace_the_unreadable(folder, tmp_path):
    loader = device_loader(folder)
    loader['num_workers'] = 1
    with pytest.raises(RuntimeError, match='num_workers=0'):
        next(iter(Runner.build_dataloader(loader, seed=0)))
    (tmp_path / 'train/a').mkdir(parents=True)
    Image.new('RGB', (300, 600), 'white').save(tmp_path / 'train/a/1.jpg')
    (tmp_path / 'train/a/0.jpg').write_bytes(b'broken')
    dataset = Runner.build_dataloader(device_loader(tmp_path), seed=0).dataset
    assert dataset._sizes.tolist() == [[256, 128], [256, 128]]
    assert dataset._pixels[:, :, :, :128].min() == 255
    # A broken file counts once.
    assert (dataset.dataset._reads, dataset.dataset._failures) == (2, 1)
    (tmp_path / 'train/a/1.jpg').unlink()
    with pytest.raises(RuntimeError, match='none of 1 images can be read'):
        Runner.build_dataloader(device_loader(tmp_path), seed=0)


@pytest.mark.parametrize('size, turned', [
    ((600, 800), False), ((600, 800), True), ((90, 100), False)])
def test_reduced_loading(tmp_path, size, turned):
    """The areas of the whole image, however much less of it was decoded."""
    path = tmp_path / 'photograph.jpg'
    image = smooth(np.random.default_rng(1), *size)
    exif = image.getexif()
    exif[0x0112] = 6 if turned else 1
    image.save(path, quality=95, exif=exif)
    whole = LoadImage()(dict(img_path=str(path)))['img']
    found = LoadReduced(150)(dict(img_path=str(path)))
    if max(size) <= 150:
        assert (found['img'] == whole).all()
        return
    shape = (150, 112) if turned else (112, 150)
    assert found['img_shape'] == found['img'].shape[:2] == shape
    expected = cv2.resize(whole, shape[::-1], interpolation=cv2.INTER_AREA)
    assert abs(found['img'].astype(int) - expected).mean() < 2
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(UnreadableImage, match='photograph.jpg'):
        LoadReduced(150)(dict(img_path=str(path)))
