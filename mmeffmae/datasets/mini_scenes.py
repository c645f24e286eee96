# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Mini scenes: small labelled images, drawn by a fixed recipe.

Textured shapes lie on a two-part background, with clutter, random tints,
contrast, sizes, turns and lighting: a class is known by its texture and its
shape, not by colour or brightness. The same recipe is written as an image
folder, as COCO instances with ``stuffthingmaps``, and in the ADE20K layout,
so that classification, instance and semantic segmentation run on it unchanged.
It is the embedded default for trying things out, and no
evidence of quality.
"""
import json
import math
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

#: Changes whenever the recipe draws other pixels or writes other files.
VERSION = 1
MARKER = 'mini_scenes.json'
#: (texture, shape) of labels 0..7: what is drawn as an object.
PAIRS = (('plain', 'disk'), ('striped', 'disk'), ('banded', 'triangle'),
         ('checked', 'triangle'), ('dotted', 'ring'), ('slanted', 'ring'),
         ('wavy', 'cross'), ('circled', 'cross'))
THINGS = tuple(f'{texture}_{shape}' for texture, shape in PAIRS)
#: Labels 8..11: what fills the background.
STUFF = ('sky', 'wall', 'grass', 'water')
IGNORED = 255


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


class Scene(NamedTuple):
    """One drawn scene.

    Args:
        image: ``(S, S, 3)`` uint8, RGB.
        labels: Thing label of each object, in drawing order.
        masks: ``(n, S, S)`` bool, the visible pixels of each object;
            disjoint.
        semantic: ``(S, S)`` uint8, thing labels 0..7, stuff labels 8..11,
            and 255 on the border between two backgrounds.
    """
    image: np.ndarray
    labels: list[int]
    masks: np.ndarray
    semantic: np.ndarray


# ------------------------------------------------------------------- drawing
def _distance(shape: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Signed distance (negative inside) in units of the object's radius."""
    if shape == 'disk':
        return np.sqrt(u * u + v * v) - 0.85
    if shape == 'ring':
        return np.abs(np.sqrt(u * u + v * v) - 0.68) - 0.28
    if shape == 'triangle':
        return np.maximum(np.abs(u) * 0.866 + v * 0.5, -v) - 0.5
    bars = [np.maximum(np.abs(a) - 0.95, np.abs(b) - 0.32)
            for a, b in ((u, v), (v, u))]
    return np.minimum(*bars)


def _texture(kind: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Pattern in {0, 1}; one period is one unit of ``u`` and ``v``."""
    if kind == 'plain':
        return np.zeros_like(u)
    if kind == 'checked':
        return ((u % 1.0 < 0.5) != (v % 1.0 < 0.5)).astype(float)
    if kind == 'dotted':
        du, dv = u % 1.0 - 0.5, v % 1.0 - 0.5
        return (du * du + dv * dv < 0.12).astype(float)
    phase = {
        'striped': u,
        'banded': v,
        'slanted': 0.7 * (u + v),
        'wavy': v + np.abs(u % 1.0 - 0.5),
        'circled': np.sqrt(u * u + v * v),
    }[kind]
    return (phase % 1.0 < 0.5).astype(float)


def _colours(rng: np.random.Generator,
             contrast: float) -> tuple[np.ndarray, np.ndarray]:
    """A darker and a brighter tinted grey ``(3,)``, in random order."""
    dark = rng.uniform(0.15, 0.95 - contrast)
    greys = np.array([dark, dark + contrast])[rng.permutation(2), None]
    first, second = greys + rng.uniform(-0.1, 0.1, (2, 3))
    return first, second


def _blend(canvas: np.ndarray, alpha: np.ndarray, colour: np.ndarray) -> None:
    canvas += alpha[..., None] * (colour - canvas)


def _background(rng: np.random.Generator,
                size: int) -> tuple[np.ndarray, np.ndarray]:
    """A canvas ``(S, S, 3)`` in [0, 1] and its semantic map ``(S, S)``."""
    y, x = np.mgrid[:size, :size] / size
    above = rng.integers(0, 2)
    below = rng.integers(2, 4)
    edge = y - rng.uniform(0.3, 0.7) - rng.uniform(-0.3, 0.3) * (x - 0.5)
    semantic = np.where(edge < 0, len(THINGS) + above, len(THINGS) + below)
    semantic[np.abs(edge) < 1.5 / size] = IGNORED
    tufts = rng.uniform(0, 1, (size // 4 + 1,) * 2).repeat(4, 0).repeat(4, 1)
    pattern = {
        'sky': y,
        'wall': np.maximum((y * 9 % 1) < 0.15,
                           ((x * 5 + 0.5 * np.floor(y * 9)) % 1) < 0.1),
        'grass': tufts[:size, :size],
        'water': np.abs((y * 12 + np.abs((x * 4) % 2 - 1)) % 2 - 1),
    }
    canvas = np.empty((size, size, 3))
    for name, region in ((STUFF[above], edge < 0), (STUFF[below], edge >= 0)):
        first, second = _colours(rng, contrast=0.12)
        mix = pattern[name].astype(float)[..., None]
        canvas[region] = (first + mix * (second - first))[region]
    return canvas, semantic.astype(np.uint8)


def _clutter(rng: np.random.Generator, canvas: np.ndarray, count: int) -> None:
    """Plain bars, part of the background they lie on."""
    size = len(canvas)
    y, x = np.mgrid[:size, :size] / size
    for _ in range(count):
        cx, cy = rng.uniform(0, 1, 2)
        angle = rng.uniform(0, math.pi)
        c, s = math.cos(angle), math.sin(angle)
        long, thick = rng.uniform(0.1, 0.3), rng.uniform(0.015, 0.04)
        u, v = c * (x - cx) + s * (y - cy), c * (y - cy) - s * (x - cx)
        inside = np.maximum(np.abs(u) - long, np.abs(v) - thick)
        _blend(canvas, np.clip(0.5 - inside * size, 0, 1),
               _colours(rng, contrast=0.12)[0])


def _place(rng: np.random.Generator, size: int, label: int,
           radii: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Coverage ``(S, S)`` in [0, 1] and pattern ``(S, S)`` of an object."""
    texture, shape = PAIRS[label]
    radius = size * rng.uniform(*radii)
    cx, cy = rng.uniform(0.8 * radius, size - 0.8 * radius, 2)
    angle = rng.uniform(-0.3, 0.3)
    c, s = math.cos(angle), math.sin(angle)
    y, x = np.mgrid[:size, :size] + 0.5
    u = (c * (x - cx) + s * (y - cy)) / radius
    v = (c * (y - cy) - s * (x - cx)) / radius
    alpha = np.clip(0.5 - _distance(shape, u, v) * radius, 0, 1)
    period = rng.uniform(10, 14) / radius  # in pixels: alike at every radius
    phase = 0 if texture == 'circled' else rng.uniform(0, 1)
    return alpha, _texture(texture, u / period + phase, v / period)


def _light(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """A lighting ramp, contrast and grain; returns ``(S, S, 3)`` uint8."""
    size = len(canvas)
    y, x = np.mgrid[:size, :size] / size - 0.5
    ramp = 1 + rng.uniform(-0.3, 0.3) * x + rng.uniform(-0.3, 0.3) * y
    lit = canvas * (ramp * rng.uniform(0.7, 1.1))[..., None]
    grain = rng.integers(-2, 3, canvas.shape)
    return np.clip(np.rint(lit * 255) + grain, 0, 255).astype(np.uint8)


def draw_scene(rng: np.random.Generator, size: int, labels: list[int],
               radii: tuple[float, float]) -> Scene:
    """Draw one scene.

    Args:
        rng: The only source of chance.
        size: Side in pixels.
        labels: Thing labels to draw, back to front.
        radii: Range of the objects' radius, as a share of the side.

    Returns:
        Scene: An object is left out when after 20 tries it would still hide
        more than half of an earlier one; the first is always there.
    """
    canvas, semantic = _background(rng, size)
    _clutter(rng, canvas, count=3)
    drawn: list[int] = []
    masks: list[np.ndarray] = []
    areas: list[int] = []
    for label in labels:
        for _ in range(20):
            alpha, pattern = _place(rng, size, label, radii)
            mask = alpha >= 0.5
            left = [m & ~mask for m in masks]
            if all(m.sum() * 2 >= area for m, area in zip(left, areas)):
                break
        else:
            continue
        first, second = _colours(rng, contrast=0.5)
        _blend(canvas, alpha, first + pattern[..., None] * (second - first))
        semantic[mask] = label
        drawn.append(label)
        masks = left + [mask]
        areas.append(int(mask.sum()))
    return Scene(_light(rng, canvas), drawn, np.stack(masks), semantic)


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


# ------------------------------------------------------------------- writing
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
