# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Mini scenes: small labelled images, drawn by a fixed recipe.

The same recipe (see :mod:`mmeffmae.datasets.mini_drawing`) is written as an
image folder, as COCO instances with ``stuffthingmaps``, and in the ADE20K
layout, so that classification, instance and semantic segmentation run on it
unchanged. It is the embedded default for trying things out, and no evidence
of quality.
"""
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .mini_drawing import THINGS, Scene, draw_scene

#: Changes whenever the recipe draws other pixels or writes other files.
VERSION = 1
MARKER = 'mini_scenes.json'


@dataclass(frozen=True)
class MiniSceneSettings:
    """How many images of which size are written.

    Args:
        image_size: Side of the classification images, in pixels.
        train_images: Images of the image folder's ``train``.
        val_images: Images of the image folder's ``val``.
        scene_size: Side of the COCO and ADE scenes, in pixels.
        train_scenes: Scenes for training, the same in both layouts.
        val_scenes: Scenes for validation.
        seed: Every image is drawn from (seed, kind, split, index).
    """
    image_size: int = 64
    train_images: int = 1200
    val_images: int = 400
    scene_size: int = 128
    train_scenes: int = 160
    val_scenes: int = 40
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            least = {'image_size': 32, 'scene_size': 64, 'seed': 0}.get(name, 1)
            if value < least:
                raise ValueError(
                    f'{name} {value} is too small (MiniSceneSettings): '
                    f'use at least {least}')


def draw_image(settings: MiniSceneSettings, split: int, index: int) -> Scene:
    """Classification image ``index`` of split 0 (train) or 1 (val).

    One object of class ``index % 8`` on a cluttered background.
    """
    rng = np.random.default_rng((settings.seed, 0, split, index))
    return draw_scene(rng, settings.image_size, [index % len(THINGS)],
                      (0.34, 0.48))


def draw_crowd(settings: MiniSceneSettings, split: int, index: int) -> Scene:
    """Scene ``index`` of split 0 (train) or 1 (val): two to six objects."""
    rng = np.random.default_rng((settings.seed, 1, split, index))
    labels = rng.integers(0, len(THINGS), rng.integers(2, 7)).tolist()
    return draw_scene(rng, settings.scene_size, labels, (0.12, 0.24))


def _save(array: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == '.jpg':
        Image.fromarray(array).save(path, quality=95)
    else:
        Image.fromarray(array).save(path, compress_level=1)


def _run_lengths(mask: np.ndarray) -> list[int]:
    """COCO's uncompressed run lengths: column-major, zeros first."""
    flat = np.concatenate([[0], mask.flatten(order='F'), [0]]).astype(np.int8)
    ends = np.flatnonzero(np.diff(flat))
    return np.diff(np.concatenate([[0], ends, [mask.size]])).tolist()


def _annotation(mask: np.ndarray, label: int) -> dict:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = int(columns[0]), int(rows[0])
    return dict(
        category_id=label + 1,
        segmentation=dict(size=list(mask.shape), counts=_run_lengths(mask)),
        area=int(mask.sum()),
        bbox=[x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y],
        iscrowd=0)


def _write_images(root: Path, settings: MiniSceneSettings) -> None:
    counts = (settings.train_images, settings.val_images)
    for split, (name, count) in enumerate(zip(('train', 'val'), counts)):
        for index in range(count):
            scene = draw_image(settings, split, index)
            folder = root / 'images' / name / THINGS[scene.labels[0]]
            _save(scene.image, folder / f'{index:05d}.png')


def _write_scenes(root: Path, settings: MiniSceneSettings) -> None:
    counts = (settings.train_scenes, settings.val_scenes)
    names = (('train', 'training'), ('val', 'validation'))
    for split, ((coco, ade), count) in enumerate(zip(names, counts)):
        images: list[dict] = []
        annotations: list[dict] = []
        for index in range(count):
            scene = draw_crowd(settings, split, index)
            stem = f'{index:05d}'
            _save(scene.image, root / f'coco/{coco}/{stem}.png')
            _save(scene.semantic, root / f'coco/stuffthingmaps/{coco}/{stem}.png')
            # ADE20K counts from 1 and keeps 0 for "other": 255 wraps to 0.
            _save(scene.image, root / f'ade/images/{ade}/{stem}.jpg')
            _save(scene.semantic + np.uint8(1),
                  root / f'ade/annotations/{ade}/{stem}.png')
            images.append(dict(id=index, file_name=f'{stem}.png',
                               width=settings.scene_size,
                               height=settings.scene_size))
            for mask, label in zip(scene.masks, scene.labels):
                annotations.append(dict(id=len(annotations) + 1, image_id=index,
                                        **_annotation(mask, label)))
        categories = [dict(id=i + 1, name=name, supercategory='thing')
                      for i, name in enumerate(THINGS)]
        path = root / f'coco/annotations/instances_{coco}.json'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(dict(
            images=images, annotations=annotations, categories=categories)))


def _count_files(root: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(root))


def _is_complete(root: Path, settings: MiniSceneSettings) -> bool:
    """Whether ``root`` holds this version with these settings, unharmed."""
    try:
        marker = json.loads((root / MARKER).read_text())
    except (OSError, ValueError):
        return False
    files = marker.pop('files', None)
    return (marker == dict(version=VERSION, settings=asdict(settings))
            and files == _count_files(root))


def write_mini_scenes(
        root: str,
        settings: MiniSceneSettings = MiniSceneSettings()) -> bool:
    """Write the mini scenes once.

    The folder appears under its name only when it is complete. A folder that
    mini scenes of another version or other settings, or with files missing,
    is written anew; a folder of anything else is left alone.

    Args:
        root: Folder to make, e.g. ``'data/mini'``.
        settings: Sizes and counts.

    Returns:
        bool: False if the folder was there already.

    Raises:
        FileExistsError: ``root`` exists and holds something else.
    """
    target = Path(root).resolve()
    if _is_complete(target, settings):
        return False
    if target.exists() and not (target / MARKER).is_file() and (
            not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(
            f'{target} exists and holds no mini scenes (write_mini_scenes): '
            'remove it or choose another folder')
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
            prefix=f'.{target.name}-', dir=target.parent) as scratch:
        fresh = Path(scratch, 'new')
        fresh.mkdir()
        _write_images(fresh, settings)
        _write_scenes(fresh, settings)
        marker = dict(version=VERSION, settings=asdict(settings),
                      files=_count_files(fresh) + 1)
        (fresh / MARKER).write_text(json.dumps(marker, indent=1) + '\n')
        if _is_complete(target, settings):  # another process was faster
            return False
        if target.exists():
            shutil.move(str(target), str(Path(scratch, 'old')))
        os.rename(fresh, target)
    return True
