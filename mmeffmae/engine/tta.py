# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Test-time augmentation of a config that is about to be tested."""
from copy import deepcopy
from typing import Any

from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

from .launch import ConfigError


def use_tta(cfg: Config) -> None:
    """Test views of every image and merge their predictions.

    With the config's ``tta_model`` and ``tta_pipeline``; without both, the
    image and its mirror image at the size of the test pipeline: the mean of
    scores or probabilities, of detectors one NMS over the boxes of both.

    Args:
        cfg: Config with ``test_*`` fields, changed in place.

    Raises:
        ConfigError: The config has neither, nor the ``default_scope`` of
            mmpretrain, mmdet or mmseg.
    """
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    if 'tta_model' not in cfg or 'tta_pipeline' not in cfg:
        cfg.tta_model = _model(cfg)
        cfg.tta_pipeline = _flipped(dataset.pipeline)
    if cfg.tta_model.type == 'mmeffmae.InstanceTTAModel':
        import_modules_from_strings('mmeffmae.integrations.mmdet')
    # The hook wraps the model after its weights are loaded and checked.
    hook = dict(type='mmeffmae.TTAHook', tta_cfg=cfg.tta_model)
    cfg.custom_hooks = [*cfg.get('custom_hooks', []), hook]
    dataset.pipeline = cfg.tta_pipeline


def _model(cfg: Config) -> dict[str, Any]:
    scope = cfg.get('default_scope')
    if scope == 'mmpretrain':
        return dict(type='mmpretrain.AverageClsScoreTTA')
    if scope == 'mmseg':
        return dict(type='mmseg.SegTTAModel')
    if scope == 'mmdet' and 'roi_head' in cfg.model:
        return dict(type='mmeffmae.InstanceTTAModel')
    if scope == 'mmdet':
        settings = {key: cfg.model.test_cfg[key] for key in ('nms', 'max_per_img')}
        return dict(type='DetTTAModel', tta_cfg=settings)  # in mmengine's registry
    raise ConfigError(
        f'--tta: a config of default_scope {scope!r} without tta_model and '
        'tta_pipeline: add both')


def _flipped(pipeline: list[dict]) -> list[dict]:
    """The pipeline with a flip of the image, not of its labels."""
    first = next((i for i, transform in enumerate(pipeline)
                  if transform['type'].endswith('LoadAnnotations')),
                 len(pipeline) - 1)
    last = deepcopy(pipeline[first:])
    if meta_keys := last[-1].get('meta_keys'):
        last[-1]['meta_keys'] = (*meta_keys, 'flip', 'flip_direction')
    flips = [dict(type='RandomFlip', prob=prob) for prob in (0., 1.)]
    views = dict(type='TestTimeAug', transforms=[flips, *([of] for of in last)])
    return [*pipeline[:first], views]
