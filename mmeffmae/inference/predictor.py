# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from os import PathLike
from typing import Any, Union

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DATASETS, VISUALIZERS
from mmengine.structures import BaseDataElement

from mmeffmae.checkpoint.loading import CheckpointError
from mmeffmae.evaluation.building import build_model, load_weights
from mmeffmae.visualization.predictions import draw_prediction

#: Task of a config by the package that its models come from.
_TASKS = dict(mmdet='detect', mmseg='segment', mmpretrain='classify')


def task_of(config: Config) -> str:
    """``'reconstruct'``, ``'detect'``, ``'segment'`` or ``'classify'``.

    Raises:
        ValueError: The config is of another kind.
    """
    if 'masking' in config.model:
        return 'reconstruct'
    scope = config.get('default_scope')
    if scope not in _TASKS:
        raise ValueError(f'{config.filename}: default_scope {scope!r} is none of '
                         f'{sorted(_TASKS)}: give a config of this package')
    return _TASKS[scope]


class Predictor:
    """A classifier, detector or segmentor with its weights and pipeline.

    Every weight of the model must be in the checkpoint.

    Args:
        config: Config with ``test_dataloader``.
        checkpoint: File that training wrote.
        device: Where to run.
        score_thr: Smallest score of a detection that counts.

    Raises:
        CheckpointError: The file cannot be used or does not fit.
        ValueError: The config has no pipeline for testing.
    """

    def __init__(
        self,
        config: Config,
        checkpoint: Union[str, PathLike],
        device: Union[str, torch.device] = 'cpu',
        score_thr: float = 0.3,
    ) -> None:
        self.task = task_of(config)
        self.score_thr = score_thr
        dataset = (config.get('test_dataloader') or {}).get('dataset') or {}
        while 'dataset' in dataset:
            dataset = dataset['dataset']
        if not dataset.get('pipeline'):
            raise ValueError(
                f'{config.filename} has no test_dataloader with a pipeline: '
                'give the config of a classifier, detector or segmentor')
        # The weights come from the checkpoint, not from pre-training.
        config.model.backbone.init_cfg = None
        self.model = build_model(config, device=device)
        meta, self.report = load_weights(self.model, checkpoint)
        self.classes, self.meta = _classes(meta, dataset)
        self.pipeline = _pipeline(dataset['pipeline'])
        visualizer = dict(config.visualizer, vis_backends=None, name='predictor')
        self.visualizer = VISUALIZERS.build(visualizer)
        self.visualizer.dataset_meta = self.meta

    @torch.no_grad()
    def __call__(self, file: Union[str, PathLike]) -> BaseDataElement:
        """Predict one image.

        Raises:
            UnreadableImage: The file is missing, damaged or no image.
        """
        results = self.pipeline(dict(img_path=str(file), img_id=0))
        sample, = self.model.test_step(pseudo_collate([results]))
        return sample.cpu()

    def describe(self, sample: BaseDataElement) -> dict[str, Any]:
        """What was predicted, as plain values for JSON.

        Boxes are x1, y1, x2, y2 in pixels; masks COCO's run lengths, which
        ``pycocotools.mask.decode`` reads.
        """
        if self.task == 'classify':
            scores, labels = sample.pred_score.topk(min(5, len(sample.pred_score)))
            return dict(classes=[self._name(i) for i in labels.tolist()],
                        scores=scores.tolist())
        if self.task == 'segment':
            classes, counts = sample.pred_sem_seg.data.unique(return_counts=True)
            shares = (counts / counts.sum()).tolist()
            return dict(shares={self._name(int(c)): share
                                for c, share in zip(classes, shares)})
        found = sample.pred_instances
        found = found[found.scores >= self.score_thr]
        values = dict(classes=[self._name(i) for i in found.labels.tolist()],
                      scores=found.scores.tolist(), boxes=found.bboxes.tolist())
        if 'masks' in found:
            values['masks'] = _run_lengths(found.masks)
        return values

    def draw(self, sample: BaseDataElement) -> np.ndarray:
        """The image with what was predicted, RGB ``(H, W, 3)`` uint8."""
        if self.task == 'classify':
            options: dict[str, Any] = dict(classes=self.classes, draw_gt=False)
        elif self.task == 'segment':
            options = dict(draw_gt=False, with_labels=False)
        else:
            options = dict(draw_gt=False, pred_score_thr=self.score_thr)
        return draw_prediction(self.visualizer, sample, **options)

    def _name(self, index: int) -> str:
        return str(self.classes[index] if self.classes else index)


def _run_lengths(masks: torch.Tensor) -> list[dict[str, Any]]:
    """Masks ``(N, H, W)`` as plain values."""
    from mmdet.structures.mask import encode_mask_results
    return [dict(size=list(of['size']), counts=of['counts'].decode())
            for of in encode_mask_results(masks.numpy())]


def _pipeline(settings: list[dict]) -> Compose:
    """The pipeline without annotations; broken files raise by name."""
    kept = [dict(step) for step in settings
            if not step['type'].split('.')[-1].startswith('LoadAnnotations')]
    kind = kept[0]['type'].split('.')[-1]
    if not kind.startswith('Load'):
        raise CheckpointError(
            f'the test pipeline starts with {kept[0]["type"]!r}: it must load '
            'an image from img_path')
    if kind == 'LoadImageFromFile':
        kept[0].update(type='mmeffmae.LoadImage')
    return Compose(kept)


def _classes(meta: dict, dataset: dict) -> tuple[list, dict]:
    """Names and colours: of the checkpoint, the config, or the dataset's class."""
    known = meta.get('dataset_meta') or dataset.get('metainfo')
    if not known:
        known = getattr(DATASETS.get(dataset['type']), 'METAINFO', {})
    known = {key.lower(): value for key, value in dict(known).items()}
    return list(known.get('classes') or []), known
