# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Monitors of decorrelation over a run."""
from collections.abc import Mapping

import numpy as np

from .curves import Curve

PREFIX = 'decorrelation/'
_LABELS = dict(
    correlation='rms correlation coefficient',
    variance='mean variance',
    distance='|R - I| / sqrt(d)')


def plot_decorrelation(curves: Mapping[str, Curve]) -> np.ndarray:
    """Plot correlation, variance and distance of every layer.

    One line a layer, from the first (dark) to the last (bright).

    Args:
        curves: As :func:`mmeffmae.visualization.curves.read_scalars` returns
            them; those of ``DecorrelationHook`` are taken.

    Returns:
        An RGB picture ``(H, W, 3)``, uint8.

    Raises:
        ValueError: The run has no such scalars.
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    layers = monitored_layers(curves)
    if not layers:
        raise ValueError(
            f'no scalar begins with {PREFIX!r}: was the run trained with '
            'DecorrelationHook, for its log_interval at least?')
    figure = Figure(figsize=(15., 4.5), dpi=100, layout='constrained')
    canvas = FigureCanvasAgg(figure)
    colours = colormaps['viridis'](np.linspace(0, .9, len(layers)))
    for axes, (name, label) in zip(figure.subplots(1, 3), _LABELS.items()):
        for layer, colour in zip(layers, colours):
            steps, values = curves[f'{PREFIX}{name}/{layer}']
            axes.plot(steps, values, color=colour, linewidth=1, label=layer)
        axes.set(xlabel='iteration', ylabel=label)
        axes.grid(alpha=0.3)
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc='outside right upper', fontsize=6,
                  ncols=1 + len(names) // 40)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def monitored_layers(curves: Mapping[str, Curve]) -> list[str]:
    """Names of the decorrelated layers, in the order of the model."""
    start = f'{PREFIX}distance/'
    return [name[len(start):] for name in curves if name.startswith(start)]
