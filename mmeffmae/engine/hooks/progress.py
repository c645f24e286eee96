# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmeffmae.registry import HOOKS


@HOOKS.register_module()
class ProgressHook(Hook):
    """Log the throughput of training, images/s over all ranks.

    The scalar ``train/images_per_s`` stands in the log beside the time left
    (``eta``), which mmengine's ``IterTimerHook`` computes.

    Args:
        window_size: Number of iterations to average over.

    Raises:
        ValueError: It is no whole number of 1 or more.
    """

    # After IterTimerHook (50), before LoggerHook (60).
    priority = 55

    def __init__(self, window_size: int = 10) -> None:
        if not isinstance(window_size, int) or window_size < 1:
            raise ValueError(f'window_size {window_size!r} (ProgressHook): use a '
                             'whole number, 1 or more')
        self.window_size = window_size

    def after_train_iter(self,
                         runner: Runner,
                         batch_idx: int,
                         data_batch: dict,
                         outputs: dict | None = None) -> None:
        """Update the scalar."""
        hub = runner.message_hub
        seconds = hub.get_scalar('train/time').mean(self.window_size)
        images = num_images(data_batch) * runner.world_size
        hub.update_scalar('train/images_per_s', images / seconds)


def num_images(data_batch: dict) -> int:
    """Number of images of a batch, whatever its number of views.

    Args:
        data_batch: What the data loader returns: ``inputs`` is a tensor (B,
            C, H, W), a list of B tensors, or, with ``data_samples``, a list
            of views.
    """
    samples = data_batch.get('data_samples')
    return len(data_batch['inputs'] if samples is None else samples)
