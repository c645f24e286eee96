# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from typing import Any

from mmpretrain.models import SelfSupDataPreprocessor as StockSelfSupDataPreprocessor

from mmeffmae.registry import MODELS


@MODELS.register_module()
class SelfSupDataPreprocessor(StockSelfSupDataPreprocessor):
    """mmpretrain's ``SelfSupDataPreprocessor`` that does not wait for the GPU.

    That one turns channels around by a list of indices, which is copied to
    the device in every batch while the host waits for all it has queued. The
    images are the same to the bit. From pinned memory (``pin_memory=True`` of
    the data loader) they are copied without waiting, too. Of such
    batches data samples stay where they are, since moving them one by one takes
    longer than all else here; what reads their masks moves those.

    Args:
        non_blocking (bool): Whether the host goes on while images are copied.
            Defaults to True.
        **kwargs: Of ``mmpretrain.models.SelfSupDataPreprocessor``: ``mean``,
            ``std``, ``to_rgb`` and others.
    """

    def __init__(self, non_blocking: bool = True, **kwargs: Any) -> None:
        super().__init__(non_blocking=non_blocking, **kwargs)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Move a batch to the device, turn its channels and normalise it.

        Args:
            data (dict): ``inputs``, ``(B, C, H, W)`` of any type or a list of
                such views, and ``data_samples``.
            training (bool): Not used.

        Returns:
            dict: The same, the images float32, on the device.
        """
        if not self._channel_conversion or isinstance(data['inputs'], list):
            return super().forward(data, training)
        images = self.cast_data(data['inputs']).flip(1).float()
        if self._enable_normalize:
            images = (images - self.mean) / self.std
        return dict(inputs=images, data_samples=data['data_samples'])
