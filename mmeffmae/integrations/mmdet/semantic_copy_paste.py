# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import numpy as np
from mmdet.datasets.transforms import CopyPaste

from mmeffmae.registry import TRANSFORMS


@TRANSFORMS.register_module()
class SemanticCopyPaste(CopyPaste):
    """mmdet's copy-paste that pastes the class map with the objects.

    mmdet's own leaves ``gt_seg_map`` as it was, so a semantic branch would
    learn the classes that the objects cover. It also makes the image int64;
    here it keeps its type.

    Required Keys: those of mmdet's ``CopyPaste``, and gt_seg_map (optional)
    """

    def _copy_paste(self, dst_results: dict, src_results: dict) -> dict:
        kind = dst_results['img'].dtype
        results = super()._copy_paste(dst_results, src_results)
        results['img'] = results['img'].astype(kind)
        if 'gt_seg_map' in results and len(src_results['gt_masks']):
            pasted = src_results['gt_masks'].masks.any(axis=0)
            results['gt_seg_map'] = np.where(
                pasted, src_results['gt_seg_map'], results['gt_seg_map'])
        return results
