# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import numpy as np

from mmeffmae.visualization import plot_curves, read_scalars


def test_a_resumed_run_makes_one_curve(tmp_path):
    first, second = tmp_path / 'a.json', tmp_path / 'b.json'
    first.write_text('{"loss": 3.0, "step": 10}\n{"loss": 2.0, "step": 20}\n'
                     '{"loss": 1.5, "step": 30}\n{"loss": 1.4, "st')
    second.write_text('{"loss": 1.75, "step": 30, "note": "resumed"}\n'
                      '{"monitor/knn_top1": 40, "step": 30}\n')
    assert read_scalars([first, second]) == {
        'loss': ([10, 20, 30], [3.0, 2.0, 1.75]),
        'monitor/knn_top1': ([30], [40.0])
    }


def test_curves_are_drawn():
    curves = {'loss': ([0, 10], [1.0, 0.5]), 'flat': ([0, 10], [0.7, 0.7])}
    picture = plot_curves(curves, ['loss', 'flat'], 'loss', size=(3, 2))
    assert picture.shape == (200, 300, 3) and picture.dtype == np.uint8
    colours = np.unique(picture.reshape(-1, 3), axis=0).tolist()
    # The first two colours of matplotlib's cycle, one a curve.
    assert [31, 119, 180] in colours and [255, 127, 14] in colours
