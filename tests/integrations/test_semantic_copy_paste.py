# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import numpy as np
import pytest
import torch

pytest.importorskip('mmdet')

from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks

from mmeffmae.integrations.mmdet import SemanticCopyPaste


def scene(grey, label, rows):
    """One object over some rows of an 8x8 image, and its class in the map."""
    mask = np.zeros((1, 8, 8), np.uint8)
    mask[:, rows] = 1
    boxes = HorizontalBoxes(
        torch.tensor([[0., rows.start, 8., rows.stop]]))
    return dict(
        img=np.full((8, 8, 3), grey, np.uint8), gt_bboxes=boxes,
        gt_bboxes_labels=np.array([label]), gt_masks=BitmapMasks(mask, 8, 8),
        gt_ignore_flags=np.array([False]),
        gt_seg_map=np.where(mask[0], label, 50 + label).astype(np.uint8))


def test_the_class_map_is_pasted_with_the_objects():
    results = scene(10, 1, slice(0, 4))
    results['mix_results'] = [scene(200, 2, slice(3, 6))]
    results = SemanticCopyPaste(selected=False).transform(results)
    assert results['img'].dtype == np.uint8
    assert results['img'][:, 0, 0].tolist() == [10] * 3 + [200] * 3 + [10] * 2
    assert results['gt_seg_map'][:, 0].tolist() == [1] * 3 + [2] * 3 + [51] * 2
    assert results['gt_seg_map'].dtype == np.uint8
    assert results['gt_bboxes_labels'].tolist() == [1, 2]
    assert results['gt_masks'].masks[:, :, 0].tolist() == [
        [1, 1, 1, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1, 0, 0]]


def test_nothing_to_paste_changes_nothing():
    results = scene(10, 1, slice(0, 4))
    other = scene(200, 2, slice(3, 6))
    for key in ('gt_bboxes', 'gt_bboxes_labels', 'gt_masks', 'gt_ignore_flags'):
        other[key] = other[key][[]]
    before = results['gt_seg_map'].copy()
    results['mix_results'] = [other]
    results = SemanticCopyPaste(selected=False).transform(results)
    assert np.array_equal(results['gt_seg_map'], before)
