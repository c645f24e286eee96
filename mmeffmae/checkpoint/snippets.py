# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Configs of the stock packages that use an exported backbone.

Each snippet is the text of a config with a complete model. Only those of
encoders that the stock packages lack name this package.
"""
import os
from collections.abc import Mapping, Sequence
from typing import Any

_IMPORTS = """custom_imports = dict(
    imports={modules}, allow_failed_imports=False)
"""

_BACKBONE = """dict(
        {settings},
        init_cfg=dict(
            type='Pretrained',
            checkpoint={checkpoint!r},
            prefix='backbone.'))"""

_MMPRETRAIN = """# mmpretrain: image classification
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        type='ClsDataPreprocessor',
        num_classes=1000,
        mean={mean},
        std={std},
        to_rgb={to_rgb}),
    backbone={backbone},
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels={width},
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0)))
"""

_PYRAMID = """dict(
            type='mmseg.Feature2Pyramid',
            embed_dim={width},
            rescales=[4, 2, 1, 0.5],
            norm_cfg=dict(type='BN', requires_grad=True))"""

_MMDET = """# mmdet: object detection
default_scope = 'mmdet'
{imports}model = dict(
    type='FCOS',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean={mean},
        std={std},
        bgr_to_rgb={to_rgb},
        pad_size_divisor={divisor}),
    backbone={backbone},
    neck=[
        {pyramid}dict(
            type='FPN',
            in_channels={widths},
            out_channels=256,
            add_extra_convs='on_output',
            num_outs=5)
    ],
    bbox_head=dict(
        type='FCOSHead',
        num_classes=80,
        in_channels=256,
        strides={strides}),
    test_cfg=dict(
        nms_pre=1000,
        score_thr=0.05,
        nms=dict(type='nms', iou_threshold=0.5),
        max_per_img=100))
"""

_MMSEG = """# mmseg: semantic segmentation
default_scope = 'mmseg'
{imports}model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean={mean},
        std={std},
        bgr_to_rgb={to_rgb},
        size=(512, 512),
        pad_val=0,
        seg_pad_val=255),
    backbone={backbone},{neck}
    decode_head=dict(
        type='UPerHead',
        in_channels={widths},
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=512,
        num_classes=150,
        norm_cfg=dict(type='BN', requires_grad=True)),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
"""


def config_snippets(path: str | os.PathLike,
                    backbone: Mapping[str, Any], meta: Mapping[str, Any],
                    embed_dims: int, num_layers: int,
                    widths: Sequence[int] = ()) -> dict[str, str]:
    """Config texts that use an exported backbone.

    Args:
        path: The exported file.
        backbone: Config of the stock backbone, without output settings.
        meta: Of the exported file: ``mean``, ``std``, ``channel_order`` and
            ``patch_size``.
        embed_dims: Width of the encoder.
        num_layers: Depth of the encoder.
        widths: Of the maps of a pyramid encoder, from stride
            ``patch_size / 4`` on; empty for a plain one.

    Returns:
        dict: ``'mmpretrain'``, ``'mmdet'`` and ``'mmseg'``. Encoders of fewer
        than four layers or without square patches have no feature pyramid
        and get the first only.
    """
    checkpoint = str(path)
    values: dict[str, Any] = dict(
        mean=meta['mean'],
        std=meta['std'],
        to_rgb=meta['channel_order'] == 'rgb',
        width=embed_dims)
    # Pyramids have a norm for each output.
    plain: dict[str, Any] = {} if widths else dict(final_norm=False)
    averaged = _backbone(
        checkpoint, backbone, out_type='avg_featmap', **plain)
    snippets = dict(
        mmpretrain=_MMPRETRAIN.format(backbone=averaged, **values))
    side = meta['patch_size']
    if num_layers < 4 or not isinstance(side, int):
        return snippets
    out_indices = list(range(len(widths))) or [
        num_layers * part // 4 - 1 for part in (1, 2, 3, 4)]
    maps = _backbone(
        checkpoint, backbone, out_type='featmap', out_indices=out_indices, **plain)
    pyramid = '' if widths else _PYRAMID.format(width=embed_dims)
    values.update(
        backbone=maps,
        pyramid=pyramid and pyramid + ',\n        ',
        widths=list(widths) or [embed_dims] * 4,
        imports='' if widths else _IMPORTS.format(
            modules=['mmpretrain.models', 'mmseg.models']),
        divisor=2 * side,
        strides=[_stride(side * scale / 4) for scale in (1, 2, 4, 8, 16)])
    snippets['mmdet'] = _MMDET.format(**values)
    neck = pyramid.replace('\n    ', '\n')
    values.update(
        imports='' if widths else _IMPORTS.format(modules=['mmpretrain.models']),
        neck=neck and f'\n    neck={neck},')
    snippets['mmseg'] = _MMSEG.format(**values)
    return snippets


def _stride(pixels: float) -> int | float:
    return int(pixels) if pixels.is_integer() else pixels


def _backbone(checkpoint: str, backbone: Mapping[str, Any],
              **outputs: Any) -> str:
    lines: list[str] = [
        f'{key}={value!r}' for key, value in {
            **backbone,
            **outputs
        }.items()
    ]
    return _BACKBONE.format(
        settings=',\n        '.join(lines), checkpoint=checkpoint)
