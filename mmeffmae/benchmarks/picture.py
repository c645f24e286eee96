# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""A figure that becomes a PNG, the same for the same results."""
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def picture(path: Path, width: float, height: float) -> Iterator[Any]:
    """A matplotlib ``Figure`` that is written when the block ends.

    Args:
        path: PNG to write; its folder is made.
        width: Inches.
        height: Inches.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    figure = Figure(figsize=(width, height), dpi=120, layout='constrained')
    FigureCanvasAgg(figure)
    yield figure
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without the version of matplotlib, which the file would carry otherwise.
    figure.savefig(path, metadata={'Software': None})
