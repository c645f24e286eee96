# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from mmpretrain.models import SwinTransformer as StockSwinTransformer

from mmeffmae.registry import MODELS

from ..layers import resize_bias_table

_TABLE, _INDEX = 'relative_position_bias_table', 'relative_position_index'


@MODELS.register_module()
class SwinTransformer(StockSwinTransformer):
    """mmpretrain's Swin transformer that loads other window sizes.

    mmpretrain resizes tables of relative position biases with a function that
    SciPy 1.14 removed, so SimMIM's window 6 does not load into window 7
    there. Here they are resized bicubically, as Swin's own code and mmdet do.

    Args:
        *args: Of ``mmpretrain.models.SwinTransformer``.
        **kwargs: The same.
    """

    def optional_keys(self) -> dict[str, list[str]]:
        """Indices follow from the window; a detector has norms of its own."""
        return dict(
            missing=[f'*{_INDEX}', 'norm[0-2].*'], unexpected=['head.*', 'fc.*'])

    def _prepare_relative_position_bias_table(
            self, state_dict: dict, prefix: str, *args, **kwargs) -> None:
        for key, own in self.state_dict().items():
            table = state_dict.get(prefix + key)
            if not key.endswith(_TABLE) or table is None or len(table) == len(own):
                continue
            state_dict[prefix + key] = resize_bias_table(table, len(own))
            state_dict.pop(prefix + key.replace(_TABLE, _INDEX), None)
