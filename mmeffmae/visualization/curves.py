# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Curves of the scalars that a run wrote."""
import json
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Union

import numpy as np

#: Steps and values of one scalar.
Curve = tuple[list[int], list[float]]


def read_scalars(
        files: Iterable[Union[str, PathLike]]) -> dict[str, Curve]:
    """Read the ``scalars.json`` files of a run in the order of their parts.

    A later file overwrites the steps of an earlier one, so that a resumed
    run makes one curve. A last line that a killed run left unfinished is
    skipped.

    Args:
        files: Files of one JSON object a line, each with ``step``.

    Returns:
        For each scalar its steps, ascending, and values.
    """
    points: dict[str, dict[int, float]] = {}
    for file in files:
        for line in Path(file).read_text().splitlines():
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue
            step = record.pop('step')
            for name, value in record.items():
                if isinstance(value, (int, float)):
                    points.setdefault(name, {})[int(step)] = float(value)
    return {
        name: (sorted(values), [values[step] for step in sorted(values)])
        for name, values in points.items()
    }


def plot_curves(curves: Mapping[str, Curve],
                names: Sequence[str],
                label: str,
                size: tuple[float, float] = (6.0, 3.2)) -> np.ndarray:
    """Plot scalars over iterations.

    Args:
        curves: As :func:`read_scalars` returns them.
        names: Which of them to plot.
        label: Label of the vertical axis.
        size: Width and height in inches, at 100 pixels an inch.

    Returns:
        An RGB picture ``(H, W, 3)``, uint8.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    figure = Figure(figsize=size, dpi=100, layout='constrained')
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name in names:
        steps, values = curves[name]
        marker = 'o' if len(steps) < 30 else ''
        axes.plot(steps, values, label=name, marker=marker, markersize=3)
    axes.set_xlabel('iteration')
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    axes.legend()
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
