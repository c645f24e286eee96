# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Draws the figures of the pages before they are read."""
from pathlib import Path

from sphinx.util import logging


def _draw(app) -> None:
    from figures import draw_all  # docs/figures.py
    written = draw_all(Path(app.srcdir) / '_generated')
    logging.getLogger(__name__).info('drawn: %d figures', len(written))


def setup(app) -> dict:
    """Register with Sphinx."""
    app.connect('builder-inited', _draw)
    return dict(parallel_read_safe=True)
