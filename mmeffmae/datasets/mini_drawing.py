# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""How a mini scene is drawn: textured shapes on a two-part background.

Clutter, tints, contrast, sizes, turns and lighting are random: a class is
known by its texture and its shape, not by colour or brightness. Textures are
coarse and nearly upright, so that neighbouring patches tell much about a
masked one and a few minutes of pre-training show an effect.
"""
import math
from typing import NamedTuple

import numpy as np

#: (texture, shape) of labels 0..7: what is drawn as an object.
PAIRS = (('plain', 'disk'), ('striped', 'disk'), ('banded', 'triangle'),
         ('checked', 'triangle'), ('dotted', 'ring'), ('slanted', 'ring'),
         ('wavy', 'cross'), ('circled', 'cross'))
THINGS = tuple(f'{texture}_{shape}' for texture, shape in PAIRS)
#: Labels 8..11: what fills the background.
STUFF = ('sky', 'wall', 'grass', 'water')
IGNORED = 255


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
