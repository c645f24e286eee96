# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def smooth():
    """A function that draws a new smooth picture ``(rows, cols, bands)`` uint8."""
    rng = np.random.default_rng(0)

    def draw(rows: int = 60, cols: int = 80, bands: int = 3) -> np.ndarray:
        coarse = rng.integers(0, 256, (6, 7, bands), dtype='u1')
        planes = [Image.fromarray(coarse[..., b]).resize((cols, rows), Image.BICUBIC)
                  for b in range(bands)]
        return np.stack([np.asarray(plane) for plane in planes], axis=-1)

    return draw


@pytest.fixture
def photographs(tmp_path, smooth):
    """A folder of 40 small photographs."""
    folder = tmp_path / 'Fotos 写真'
    folder.mkdir()
    for i in range(40):
        Image.fromarray(smooth()).save(folder / f'{i:02}.jpg')
    return folder
