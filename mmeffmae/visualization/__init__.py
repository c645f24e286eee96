# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from .curves import plot_curves, read_scalars
from .reconstruction import (
                             draw_reconstruction,
                             render_reconstruction,
                             save_picture,
                             tile_pictures,
                             to_uint8_rgb,
)

__all__ = [
    'draw_reconstruction', 'plot_curves', 'read_scalars',
    'render_reconstruction', 'save_picture', 'tile_pictures', 'to_uint8_rgb'
]
