# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from typing import Any, Optional, Union

import torch
from mmdet.models.layers import multiclass_nms
from mmdet.models.roi_heads import HybridTaskCascadeRoIHead
from mmdet.models.utils import samplelist_boxtype2tensor
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_flip
from mmengine.config import ConfigDict
from mmengine.model import BaseTTAModel
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmeffmae.registry import MODELS

#: Areas of COCO's small, medium and large objects, in pixels of the image.
_AREAS = dict(s=(0., 32.**2), m=(32.**2, 96.**2), l=(96.**2, inf))
_FLIPPED_AXES = dict(horizontal=(-1, ), vertical=(-2, ), diagonal=(-1, -2))


@dataclass
class _View:
    """One view of one image, after the backbone.

    Attributes:
        features: Maps of the neck.
        semantic: Map of the semantic branch, None without one.
        meta: Meta information of the view; the flip is taken out.
        flip: Direction of the flip, None without one.
    """
    features: tuple[Tensor, ...]
    semantic: Optional[Tensor]
    meta: dict[str, Any]
    flip: Optional[str]

    def to_image(self, boxes: Tensor) -> Tensor:
        """Boxes of the view at its scale, to the original image."""
        boxes = boxes / self._scale(boxes)
        return self._flip(boxes, self.meta['ori_shape'])

    def to_view(self, boxes: Tensor) -> Tensor:
        """Boxes of the original image, ``(n, 4)``, to the view."""
        boxes = self._flip(boxes, self.meta['ori_shape'])
        return boxes * self._scale(boxes)

    def _scale(self, boxes: Tensor) -> Tensor:
        repeats = boxes.shape[-1] // 2
        return boxes.new_tensor(self.meta['scale_factor']).repeat(repeats)

    def _flip(self, boxes: Tensor, shape: tuple[int, int]) -> Tensor:
        return bbox_flip(boxes, shape, self.flip) if self.flip else boxes


@MODELS.register_module()
class InstanceTTAModel(BaseTTAModel):
    """Test-time augmentation of boxes and masks over scales and flips.

    mmdet's ``DetTTAModel`` refuses masks. Here every view of an image gives
    boxes with scores of all classes; boxes of the wrong size for the scale of
    the view are left out; all of them together go through one (soft-)NMS.
    Then every view predicts a mask for each merged box, and the mean of the
    probabilities is pasted once. So one view without flip gives what the
    detector itself predicts. It works for detectors with a region proposal
    head and a ``StandardRoIHead``, a ``CascadeRoIHead`` for boxes, or a
    ``HybridTaskCascadeRoIHead``.

    Args:
        object_sizes (Sequence[Sequence[str]], optional): For every scale of
            the ``TestTimeAug`` transform, its first list: which of COCO's
            sizes ``'s'``, ``'m'``, ``'l'`` (areas up to 32², up to 96² and
            beyond, in the image's pixels) its boxes may have. Defaults to all.
        tta_cfg (dict, optional): ``score_thr``, ``nms`` and ``max_per_img``
            where they differ from the detector's ``test_cfg.rcnn``.
        **kwargs: Of ``mmengine.model.BaseTTAModel``: ``module``.

    Raises:
        ValueError: If a size is unknown, or, at the first image, the number
            of views is no multiple of the number of scales.
        TypeError: If the detector has no such heads.
    """

    def __init__(
        self,
        object_sizes: Optional[Sequence[Sequence[str]]] = None,
        tta_cfg: Optional[dict] = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        unknown = {s for sizes in object_sizes or () for s in sizes} - set(_AREAS)
        if unknown:
            raise ValueError(
                f'object_sizes has {sorted(unknown)} (InstanceTTAModel): use '
                f'{sorted(_AREAS)}')
        self.object_sizes = object_sizes
        detector = self.module
        if not hasattr(detector, 'rpn_head') or not hasattr(detector, 'roi_head'):
            raise TypeError(
                f'{type(detector).__name__} has no rpn_head and roi_head '
                '(InstanceTTAModel): use mmdet\'s DetTTAModel')
        self.tta_cfg = ConfigDict({**detector.roi_head.test_cfg, **(tta_cfg or {})})

    @property
    def roi_head(self) -> nn.Module:
        """The detector's region head."""
        return self.module.roi_head

    @torch.no_grad()
    def test_step(self, data: dict) -> list[DetDataSample]:
        """Predict a batch of images from all their views.

        Args:
            data (dict): ``inputs`` and ``data_samples``, each a list over
                views of lists over images, as ``TestTimeAug`` makes them.

        Returns:
            list[DetDataSample]: One an image, of its first view, with merged
            ``pred_instances`` in the pixels of the original image.
        """
        pairs = list(zip(data['inputs'], data['data_samples']))
        images = [[[x[i] for x in part] for part in pairs]
                  for i in range(len(pairs[0][0]))]
        return [self._predict(views) for views in images]

    def merge_preds(self, data_samples_list: list) -> list:
        """Not used: views are merged before their predictions are final."""
        raise NotImplementedError('InstanceTTAModel merges in test_step')

    def _predict(self, inputs: list) -> DetDataSample:
        per_scale = self._views_per_scale(len(inputs))
        views, boxes, scores = [], [], []
        for index, (image, sample) in enumerate(inputs):
            view, found = self._look(image, sample)
            sizes = (self.object_sizes[index // per_scale]
                     if self.object_sizes else None)
            views.append(view)
            boxes.append(view.to_image(found.bboxes))
            scores.append(_of_sizes(boxes[-1], found.scores, sizes))
        results = self._merge(torch.cat(boxes), torch.cat(scores))
        if self.roi_head.with_mask:
            results = self._add_masks(results, views)
        merged = inputs[0][1].clone()
        merged.pred_instances = results
        samplelist_boxtype2tensor([merged])  # visualizers read tensors
        return merged

    def _views_per_scale(self, num_views: int) -> int:
        num_scales = len(self.object_sizes or [()])
        if num_views % num_scales:
            raise ValueError(
                f'{num_views} views of {num_scales} object_sizes '
                '(InstanceTTAModel): give one entry for each scale of the '
                'first list of TestTimeAug')
        return num_views // num_scales

    def _look(
        self, image: Tensor, sample: DetDataSample
    ) -> tuple[_View, InstanceData]:
        """Features of a view, and its boxes with all scores before any NMS."""
        data = self.module.data_preprocessor(
            dict(inputs=[image], data_samples=[sample]), False)
        meta = dict(data['data_samples'][0].metainfo)
        flip = meta.pop('flip_direction', None) if meta.pop('flip', False) else None
        features = self.module.extract_feat(data['inputs'])
        proposals = self.module.rpn_head.predict(
            features, data['data_samples'], rescale=False)
        semantic = None
        if getattr(self.roi_head, 'with_semantic', False):
            semantic = self.roi_head.semantic_head(features)[1]
        view = _View(features, semantic, meta, flip)
        options = dict(semantic_feat=semantic) if self._is_htc else {}
        found, = self.roi_head.predict_bbox(
            features, batch_img_metas=[meta], rpn_results_list=proposals,
            rcnn_test_cfg=None, rescale=False, **options)
        return view, found

    @property
    def _is_htc(self) -> bool:
        return isinstance(self.roi_head, HybridTaskCascadeRoIHead)

    def _merge(self, boxes: Tensor, scores: Tensor) -> InstanceData:
        cfg = self.tta_cfg
        boxes, labels = multiclass_nms(
            boxes, scores, cfg.score_thr, cfg.nms, cfg.max_per_img)
        return InstanceData(bboxes=boxes[:, :4], scores=boxes[:, 4], labels=labels)

    def _add_masks(self, results: InstanceData, views: list[_View]) -> InstanceData:
        total: Union[Tensor, float] = 0.
        head = self._mask_head
        for view in views if len(results) else ():
            seen = InstanceData(
                bboxes=view.to_view(results.bboxes), labels=results.labels,
                scores=results.scores)
            with _kept_probabilities(head) as kept:
                options = [view.semantic] if self._is_htc else []
                self.roi_head.predict_mask(
                    view.features, *options, [view.meta], [seen], rescale=True)
            masks = kept[0]
            total = total + (masks.flip(_FLIPPED_AXES[view.flip])
                             if view.flip else masks)
        meta = dict(ori_shape=views[0].meta['ori_shape'], scale_factor=(1., 1.))
        return head.predict_by_feat(
            mask_preds=[total / len(views)], results_list=[results],
            batch_img_metas=[meta], rcnn_test_cfg=self.roi_head.test_cfg,
            rescale=True, activate_map=True)[0]

    @property
    def _mask_head(self) -> nn.Module:
        heads = self.roi_head.mask_head
        return heads[-1] if isinstance(heads, nn.ModuleList) else heads


def _of_sizes(
    boxes: Tensor, scores: Tensor, sizes: Optional[Sequence[str]]
) -> Tensor:
    """Scores without those of boxes of other sizes.

    Args:
        boxes: ``(n, 4)``, or ``(n, 4·classes)`` in the image's pixels.
        scores: ``(n, classes + 1)``, the background last.
        sizes: Keys of the areas that count; None for all.
    """
    if sizes is None:
        return scores
    corners = boxes.unflatten(1, (-1, 4))
    area = (corners[..., 2:] - corners[..., :2]).clamp(min=0).prod(-1)
    fits = torch.zeros_like(area, dtype=torch.bool)
    for low, high in (_AREAS[size] for size in sizes):
        fits |= (area >= low) & (area < high)
    background = fits.new_ones(len(fits), 1)
    classes = fits.expand(-1, scores.shape[1] - 1)
    return scores * torch.cat([classes, background], dim=1)


@contextmanager
def _kept_probabilities(head: nn.Module) -> Iterator[list[Tensor]]:
    """Take the mask probabilities of one image before they are pasted.

    mmdet's heads paste in ``predict_by_feat``, the one public method that
    sees the probabilities; within the context it keeps them instead.
    """
    kept: list[Tensor] = []

    def keep(mask_preds, results_list, activate_map=False, **kwargs):
        kept.extend(m if activate_map else m.sigmoid() for m in mask_preds)
        return results_list

    head.predict_by_feat = keep
    try:
        yield kept
    finally:
        del head.predict_by_feat
