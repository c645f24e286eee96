# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Images a second that one core reads, decodes and crops, by several ways."""
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import mmcv
import torch
from mmengine.device import get_device
from mmengine.runner import Runner
from PIL import Image

from mmeffmae.datasets.tar_archive import pack
from mmeffmae.datasets.unlabelled import find_images
from mmeffmae.evaluation.throughput import clock, interleave, spread


def store_at(source: Path, target: Path, side: int, number: int) -> None:
    """Write photographs with another longest side, as JPEG of quality 90.

    Args:
        source: Folder of photographs.
        target: Folder to write.
        side: Longest side in pixels; smaller ones are enlarged, which makes
            them easier to decode than real ones of that size.
        number: The first so many, evenly spaced in the sorted list.
    """
    names = find_images(str(source), 'data_speed.py')
    target.mkdir(parents=True)
    for i, name in enumerate(names[::max(1, len(names) // number)][:number]):
        with Image.open(source / name) as image:
            ratio = side / max(image.size)
            size = [max(1, round(length * ratio)) for length in image.size]
            image.convert('RGB').resize(size, Image.Resampling.BICUBIC).save(
                target / f'{i:05}.jpg', quality=90)


def loader_ways(
    folder: Path, archive: Path, scale: int
) -> dict[str, tuple[list[dict], str]]:
    """Pipelines, and where they read, by name.

    Args:
        folder: The photographs.
        archive: The same as a tar file; it is written.
        scale: Side of the crops in pixels.
    """
    pack(folder, find_images(str(folder), 'data_speed.py'), archive)
    crop = dict(
        scale=scale, crop_ratio_range=(0.2, 1.0), backend='cv2',
        interpolation='bicubic')
    backends = ['cv2', 'pillow', *(['turbojpeg'] if _has_turbojpeg() else [])]
    ways: dict[str, tuple[list[dict], str]] = {
        f'load + crop, {backend}': ([
            dict(type='mmeffmae.LoadImage', imdecode_backend=backend),
            dict(type='mmpretrain.RandomResizedCrop', **crop)
        ], str(folder))
        for backend in backends
    }
    fused = [dict(type='mmeffmae.LoadRandomResizedCrop', **crop)]
    ways['fused load and crop'] = (fused, str(folder))
    ways['fused load and crop, tar'] = (fused, f'tar://{archive}')
    return ways


def measure_data(
    folder: Path, archive: Path, scale: int, batch_size: int, rounds: int
) -> list[dict[str, Any]]:
    """Time batches of every way in turns.

    Args:
        folder: Photographs.
        archive: Where to write them as a tar file.
        scale: Side of the crops in pixels.
        batch_size: Images of a batch.
        rounds: Batches of every way.

    Returns:
        ``name``, ``images_per_second`` (spread) and ``ratio`` to the first
        way, of each.
    """
    cv2.setNumThreads(1)
    loaders = {
        name: _batches(dict(
            type='mmeffmae.UnlabelledImages', data_root=root,
            pipeline=[dict(type='mmeffmae.SeedSample'), *steps,
                      dict(type='mmpretrain.RandomFlip', prob=0.5),
                      dict(type='mmpretrain.PackInputs')]), batch_size)
        for name, (steps, root) in loader_ways(folder, archive, scale).items()
    }
    device = torch.device(get_device())
    loaders[f'DeviceImages on {device.type}'] = _batches(dict(
        type='mmeffmae.DeviceImages', scale=scale,
        dataset=dict(type='mmeffmae.UnlabelledImages', data_root=str(folder))),
        batch_size, collate='mmeffmae.whole_batch')
    steps: list[Callable[[], Any]] = [
        partial(next, batches) for batches in loaders.values()]
    for step in steps:
        step()
    seconds = interleave(steps, rounds, 1, clock(device))
    return [
        dict(
            name=name,
            images_per_second=spread([batch_size / t for t in times]),
            ratio=spread([a / b for a, b in zip(seconds[0], times)]))
        for name, times in zip(loaders, seconds)
    ]


def _batches(
    dataset: dict, batch_size: int, collate: str = 'default_collate'
) -> Iterator[Any]:
    loader = Runner.build_dataloader(
        dict(
            batch_size=batch_size, num_workers=0, drop_last=True,
            sampler=dict(type='mmeffmae.InfiniteKeyedSampler', shuffle=True),
            collate_fn=dict(type=collate), dataset=dataset), seed=0)
    return itertools.chain.from_iterable(itertools.repeat(loader))


def _has_turbojpeg() -> bool:
    """Whether mmcv can use it; neither it nor its library is required."""
    try:
        mmcv.use_backend('turbojpeg')
    except (ImportError, OSError):
        return False
    finally:
        mmcv.use_backend('cv2')
    return True
