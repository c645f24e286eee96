# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

from mmeffmae.registry import HOOKS
from mmeffmae.visualization.predictions import draw_prediction, stack_pictures
from mmeffmae.visualization.reconstruction import save_picture


@HOOKS.register_module()
class PredictionsHook(Hook):
    """Draw what a detector or segmentor finds in the first images.

    At every validation and test, ground truth and prediction of the same
    images go to ``work_dir/vis/predictions_iter_*.png``.

    Args:
        num_images: Rows of the picture.
        **options: Of ``add_datasample`` of the run's visualizer, such as
            ``pred_score_thr`` (mmdet) or ``with_labels`` (mmseg).

    Raises:
        ValueError: ``num_images`` is not positive.
    """

    def __init__(self, num_images: int = 4, **options: Any) -> None:
        if num_images < 1:
            raise ValueError(f'num_images={num_images} (PredictionsHook): '
                             'use 1 or more')
        self.num_images = num_images
        self.options = options
        self._pictures: list[np.ndarray] = []

    def after_val_iter(self,
                       runner: Runner,
                       batch_idx: int,
                       data_batch: dict | None = None,
                       outputs: Sequence[BaseDataElement] | None = None) -> None:
        """Draw the images that are still wanted."""
        self._draw(runner, outputs or ())

    def after_test_iter(self,
                        runner: Runner,
                        batch_idx: int,
                        data_batch: dict | None = None,
                        outputs: Sequence[BaseDataElement] | None = None) -> None:
        """Draw the images that are still wanted."""
        self._draw(runner, outputs or ())

    def after_val_epoch(self,
                        runner: Runner,
                        metrics: dict[str, float] | None = None) -> None:
        """Write the picture."""
        self._write(runner)

    def after_test_epoch(self,
                         runner: Runner,
                         metrics: dict[str, float] | None = None) -> None:
        """Write the picture."""
        self._write(runner)

    def _draw(self, runner: Runner,
              samples: Sequence[BaseDataElement]) -> None:
        if runner.rank == 0:
            wanted = self.num_images - len(self._pictures)
            self._pictures += [
                draw_prediction(runner.visualizer, sample, **self.options)
                for sample in samples[:wanted]
            ]

    def _write(self, runner: Runner) -> None:
        pictures, self._pictures = self._pictures, []
        if pictures:
            save_picture(
                stack_pictures(pictures),
                Path(runner.work_dir) / 'vis' /
                f'predictions_iter_{runner.iter:08d}.png')
