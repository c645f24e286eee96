# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from collections.abc import Sequence

import torch
from torch import Tensor

from mmeffmae.registry import MODELS

from .data_preprocessor import SelfSupDataPreprocessor


@MODELS.register_module()
class BandDataPreprocessor(SelfSupDataPreprocessor):
    """``SelfSupDataPreprocessor`` for any number of bands.

    mmpretrain's refuses means of more than three channels.

    Args:
        mean: One value a band, in the units of the files.
        std: The same.
        to_rgb: Turn three bands around, which are BGR as they are loaded.
    """

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], to_rgb: bool = False
    ) -> None:
        super().__init__(to_rgb=to_rgb)
        for name, values in dict(mean=mean, std=std).items():
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), False)
        self._enable_normalize = True

    @staticmethod
    def drawable(images: Tensor) -> Tensor:
        """Pixels of 0 to 255 for pictures, as values of any range have none.

        Args:
            images: Normalised, ``(..., C, H, W)``.

        Returns:
            ``(..., 3 or 1, H, W)``: the first bands, mean ± 2.5 standard
            deviations.
        """
        shown = images[..., :3 if images.shape[-3] >= 3 else 1, :, :]
        return 127.5 + 51 * shown.float()
