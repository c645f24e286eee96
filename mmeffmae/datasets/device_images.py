# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""A whole data set on the device, cropped there."""
import copy
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from mmengine.device import get_device
from mmengine.logging import print_log
from torch.utils.data import Dataset, get_worker_info

from mmeffmae.randomness import mix_key
from mmeffmae.registry import DATASETS, FUNCTIONS

from .batched_crop import CropRanges, crop_batch, draw_crops
from .samplers.keyed_index import KeyedIndex


@FUNCTIONS.register_module()
def whole_batch(batch: Any) -> Any:
    """The ``collate_fn`` of a data set that makes whole batches."""
    return batch


def of_files(dataset: dict) -> dict:
    """Settings of the data set that reads the files, inside any wrapper.

    Args:
        dataset: Of a loader.
    """
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    return dataset


@DATASETS.register_module()
class DeviceImages(Dataset):
    """Images of another data set, kept on the device as uint8.

    They are read once, by several threads; from then on no file is read, no
    worker is needed, and random crops and mirror images are made of whole
    batches there, of the distribution of ``mmpretrain.RandomResizedCrop`` and
    ``RandomFlip``. A sample depends on its key alone, as with other data
    sets, but is not the one that they would draw from the same key. In a
    loader::

        train_dataloader = dict(
            num_workers=0, persistent_workers=False,
            collate_fn=dict(type='mmeffmae.whole_batch'),
            sampler=dict(type='mmeffmae.KeyedSampler', shuffle=True),
            dataset=dict(type='mmeffmae.DeviceImages', scale=112, dataset=...))

    Args:
        dataset: Settings of an ``UnlabelledImages`` or ``LabelledImages``;
            its pipeline is replaced by one that only loads. Another image
            takes the place of one that cannot be read.
        scale: Side of the crops, in pixels.
        store: Longest side that is kept, in pixels; larger images are
            reduced, smaller ones stay. 5,000 images at 256 take 1 GB.
        crop_ratio_range: Share of the image's pixels.
        aspect_ratio_range: Width over height.
        flip_prob: Of mirror images.

    Raises:
        RuntimeError: A worker process asks for samples, or no image can be read.
        ValueError: The sampler gives no keys.
    """

    def __init__(
        self,
        dataset: dict,
        scale: int,
        store: int = 256,
        crop_ratio_range: tuple[float, float] = (0.2, 1.0),
        aspect_ratio_range: tuple[float, float] = (3 / 4, 4 / 3),
        flip_prob: float = 0.5,
    ) -> None:
        settings = copy.deepcopy(dataset)
        settings['pipeline'] = [dict(type='mmeffmae.LoadReduced', side=store)]
        settings['serialize_data'] = False  # no worker is to share it
        self.dataset = DATASETS.build(settings)
        self.scale = scale
        self.store = store
        self.ranges = CropRanges(crop_ratio_range, aspect_ratio_range, flip_prob)
        self._pixels, self._sizes = self._load()

    @property
    def metainfo(self) -> dict:
        """Of the data set whose images these are."""
        return self.dataset.metainfo

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        batch = self.__getitems__([index])
        return dict(batch, inputs=batch['inputs'][0])

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Any]:
        """A batch: ``inputs`` ``(B, 3, scale, scale)``, uint8, on the device."""
        if get_worker_info() is not None:
            raise RuntimeError(
                'the images lie on the device, where workers cannot reach them '
                '(DeviceImages): set train_dataloader.num_workers=0 and '
                'persistent_workers=False')
        keys = np.array([self._key(index) for index in indices], dtype=np.uint64)
        rows = np.array(indices, dtype=np.int64)
        boxes, flip = draw_crops(keys, self._sizes[rows], self.ranges)
        # One transfer, which the device need not be waited for.
        told = np.concatenate([rows[:, None], boxes, flip[:, None]], axis=1)
        device = self._pixels.device
        plan = torch.from_numpy(told)
        if device.type == 'cuda':
            plan = plan.pin_memory().to(device, non_blocking=True)
        images = self._pixels[plan[:, 0]]
        crops = crop_batch(images, plan[:, 1:5], plan[:, 5] > 0, self.scale)
        return dict(inputs=crops, data_samples=None)

    @staticmethod
    def _key(index: int) -> int:
        if not isinstance(index, KeyedIndex):
            raise ValueError(
                f'sample {index} has no key (DeviceImages): use '
                "sampler=dict(type='mmeffmae.KeyedSampler') or InfiniteKeyedSampler")
        return index.key

    def _load(self) -> tuple[torch.Tensor, np.ndarray]:
        number = len(self.dataset)
        pixels = np.zeros((number, 3, self.store, self.store), dtype=np.uint8)
        sizes = np.zeros((number, 2), dtype=np.int64)

        def put(i: int) -> bool:
            sample = self.dataset.prepare_data(i)
            if sample is None:  # unreadable
                return False
            height, width = sizes[i] = sample['img'].shape[:2]
            pixels[i, :, :height, :width] = sample['img'].transpose(2, 0, 1)
            return True

        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            read = np.array(list(pool.map(put, range(number))))
        if not read.any():
            raise RuntimeError(
                f'none of {number} images can be read (DeviceImages): see the '
                'warnings above')
        others = np.flatnonzero(read)
        for i in np.flatnonzero(~read):
            other = others[mix_key(i) % len(others)]
            pixels[i], sizes[i] = pixels[other], sizes[other]
        side = int(sizes.max())  # no image may need all that was set aside
        kept = torch.from_numpy(np.ascontiguousarray(pixels[:, :, :side, :side]))
        kept = kept.to(get_device())
        print_log(
            f'{number:,} images of up to {side} px on {kept.device}: '
            f'{kept.numel() / 2**30:.2f} GiB (DeviceImages)', logger='current')
        return kept, sizes
