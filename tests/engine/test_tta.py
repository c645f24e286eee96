# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import pytest
from mmengine.config import Config

from mmeffmae.engine.launch import ConfigError
from mmeffmae.engine.tta import use_tta

FLIPS = [dict(type='RandomFlip', prob=prob) for prob in (0., 1.)]


def config(scope='mmpretrain', **others):
    pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=8)]
    if scope != 'mmpretrain':
        pipeline.append(dict(type='LoadAnnotations'))
    pack = dict(type='PackInputs')
    if scope == 'mmdet':
        pack.update(meta_keys=('img_id', 'scale_factor'))
    return Config(dict(
        default_scope=scope, model=others.pop('model', dict(type='A')),
        # Wrappers, such as a repeated dataset, have the pipeline inside.
        test_dataloader=dict(dataset=dict(dataset=dict(pipeline=[*pipeline, pack]))),
        **others))


def used(cfg):
    use_tta(cfg)
    return cfg.test_dataloader.dataset.dataset.pipeline, cfg.custom_hooks[-1].tta_cfg


def test_what_the_config_says_is_used():
    pipeline, model = used(config(
        tta_model=dict(type='T'), tta_pipeline=[dict(type='P')]))
    assert pipeline == [dict(type='P')] and model == dict(type='T')


@pytest.mark.parametrize('scope, model, expected', [
    ('mmpretrain', dict(), dict(type='mmpretrain.AverageClsScoreTTA')),
    ('mmseg', dict(), dict(type='mmseg.SegTTAModel')),
    ('mmdet', dict(roi_head=dict()), dict(type='mmeffmae.InstanceTTAModel')),
    ('mmdet', dict(test_cfg=dict(nms=dict(type='nms'), max_per_img=9, score_thr=.1)),
     dict(type='DetTTAModel',
          tta_cfg=dict(nms=dict(type='nms'), max_per_img=9)))])
def test_the_mirror_image_is_the_default(scope, model, expected):
    pipeline, tta_model = used(config(scope, model=model))
    assert tta_model == expected
    assert [of.type for of in pipeline] == [
        'LoadImageFromFile', 'Resize', 'TestTimeAug']
    flips, *labels, packs = pipeline[-1].transforms
    assert flips == FLIPS
    # Labels are those of the image as it is.
    assert labels == [[dict(type='LoadAnnotations')]] * (scope != 'mmpretrain')
    if scope == 'mmdet':
        assert packs[0].meta_keys == (
            'img_id', 'scale_factor', 'flip', 'flip_direction')


def test_other_models_need_their_own():
    with pytest.raises(ConfigError, match="'mmocr' without tta_model"):
        use_tta(config('mmocr'))
