# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Reconstruction pictures during pre-training."""
from pathlib import Path
from typing import Optional

import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from torch import Tensor

from mmeffmae.compat import unwrap
from mmeffmae.evaluation.features import collate_images
from mmeffmae.evaluation.rng import isolated_rng
from mmeffmae.registry import HOOKS
from mmeffmae.visualization.reconstruction import render_reconstruction, save_picture


@HOOKS.register_module()
class ReconstructionHook(Hook):
    """Draw originals, what each view sees of them and what is predicted.

    The same images under the same masks each time: written to
    ``work_dir/vis/reconstruction_iter_*.png`` and to the backends of the
    run's visualizer. A prediction of normalised patches is drawn with the
    mean and variance of the original patch, which the model itself does not
    predict. No random stream of training is touched.

    Args:
        interval: Epochs between two pictures; the last epoch always has one.
        num_images: Rows of the picture.
        dataset: Config of a dataset with a deterministic pipeline; the
            images are taken from it at even steps. By default the first
            images of the first training batch after the start are drawn.
        seed: Seed of the masks.
        channel_order: ``'rgb'`` or ``'bgr'``, the order in the model's
            input. By default RGB if the data preprocessor converts, BGR
            (which the stack's loader reads) if not.

    Raises:
        ValueError: ``interval`` or ``num_images`` is not positive.
    """
    priority = 'NORMAL'

    def __init__(self,
                 interval: int = 1,
                 num_images: int = 8,
                 dataset: Optional[dict] = None,
                 seed: int = 0,
                 channel_order: Optional[str] = None) -> None:
        for name, value in dict(
                interval=interval, num_images=num_images).items():
            if value < 1:
                raise ValueError(f'{name}={value} (ReconstructionHook): '
                                 'use 1 or more')
        self.interval = interval
        self.num_images = num_images
        self.dataset = dataset
        self.seed = seed
        self.channel_order = channel_order
        self._inputs: Optional[Tensor] = None

    def before_train(self, runner: Runner) -> None:
        """Check the model and read the images of ``dataset``.

        Raises:
            TypeError: The model cannot reconstruct images.
        """
        model = unwrap(runner.model)
        for method in ('draw_plan', 'reconstruct'):
            if not hasattr(model, method):
                raise TypeError(
                    f'{type(model).__name__} has no {method}(): it predicts '
                    'no pixels, remove ReconstructionHook from the hooks of '
                    'this config')
        if self.dataset is not None:
            self._read_images()

    @master_only
    def _read_images(self) -> None:
        with isolated_rng(seed=0):
            dataset = DATASETS.build(self.dataset)
            count = min(self.num_images, len(dataset))
            chosen = [i * len(dataset) // count for i in range(count)]
            samples = [dataset[i] for i in chosen]
            self._inputs = collate_images(samples)['inputs']

    def before_train_iter(self,
                          runner: Runner,
                          batch_idx: int,
                          data_batch: Optional[dict] = None) -> None:
        """Keep the first images of the first batch."""
        if self._inputs is None and data_batch is not None:
            self._inputs = torch.stack(
                list(data_batch['inputs'][:self.num_images])).clone()

    def after_train_epoch(self, runner: Runner) -> None:
        """Draw every ``interval`` epochs and after the last one."""
        if self.every_n_epochs(
                runner, self.interval) or self.is_last_train_epoch(runner):
            self._draw(runner)

    @master_only
    def _draw(self, runner: Runner) -> None:
        model = unwrap(runner.model)
        batch = dict(inputs=self._inputs, data_samples=None)
        images = model.data_preprocessor(batch, False)['inputs']
        picture = render_reconstruction(model, images, self.seed,
                                        self.channel_order)
        step = runner.iter
        save_picture(
            picture,
            Path(runner.work_dir) / 'vis' /
            f'reconstruction_iter_{step:08d}.png')
        runner.visualizer.add_image('reconstruction', picture, step=step)
