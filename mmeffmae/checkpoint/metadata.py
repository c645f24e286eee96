# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""What a checkpoint says about itself: its config and its preprocessing.

mmengine stores the config of a run as text. Parsing it by executing it would
undo the safe loader, so it is read as literals only.
"""
import ast
import math
from collections.abc import Mapping
from typing import Any

from mmeffmae.compat import swaps_channels

from .loading import CheckpointError

_CONSTANTS = {'inf': math.inf, 'nan': math.nan}


def parse_config_text(text: str) -> dict[str, Any]:
    """Read the config text of a checkpoint without executing it.

    Args:
        text: ``Config.pretty_text``: assignments of literals and ``dict(...)``.

    Returns:
        dict: The top-level names. A value that is no literal becomes its
        source text.

    Raises:
        CheckpointError: The text is not Python.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        raise CheckpointError(
            f'the config text in the checkpoint cannot be read ({error}): '
            'give the config file with --config') from error
    config: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0],
                                                       ast.Name):
            config[node.targets[0].id] = _literal(node.value)
    return config


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Dict):
        return {
            _literal(key): _literal(value)
            for key, value in zip(node.keys, node.values, strict=True)
            if key is not None
        }
    if isinstance(node, ast.List):
        return [_literal(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_literal(item) for item in node.elts)
    if (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            and node.func.id == 'dict'):
        merged: dict[str, Any] = {}
        for part in node.args:
            merged.update(_literal(part))
        merged.update({word.arg: _literal(word.value)
                       for word in node.keywords if word.arg})
        return merged
    if isinstance(node, ast.Name) and node.id in _CONSTANTS:
        return _CONSTANTS[node.id]
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def checkpoint_config(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The config stored in a training checkpoint, ``{}`` if there is none."""
    meta = checkpoint.get('meta') or {}
    text = meta.get('cfg')
    return parse_config_text(text) if isinstance(text, str) else {}


def preprocessing_of_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Preprocessing that a config declares.

    Args:
        config: A whole config. mmengine takes ``model.data_preprocessor``
            and, if the model has none, the top-level one.

    Returns:
        dict: ``mean``, ``std`` (lists of float, or None if the images are
        not normalised) and ``channel_order`` (``'rgb'``, ``'bgr'``, or
        ``'file'`` where a band is no colour); ``{}`` if the config has no
        data preprocessor.
    """
    model = config.get('model') or {}
    settings = model.get('data_preprocessor') or config.get(
        'data_preprocessor')
    if not settings:
        return {}
    to_rgb = settings.get('to_rgb') or settings.get('bgr_to_rgb')
    return _preprocessing(
        settings.get('mean'), settings.get('std'), bool(to_rgb))


def preprocessing_of_module(preprocessor: Any) -> dict[str, Any]:
    """Preprocessing that a built data preprocessor does.

    Args:
        preprocessor: Of mmpretrain, mmdet or mmseg; images are loaded as
            BGR, so one that swaps channels feeds RGB.

    Returns:
        dict: As :func:`preprocessing_of_config`; ``{}`` if it normalises
        nothing and swaps nothing that could be read.
    """
    mean = getattr(preprocessor, 'mean', None)
    std = getattr(preprocessor, 'std', None)
    swaps = swaps_channels(preprocessor)
    if mean is None and swaps is None:
        return {}
    return _preprocessing(
        mean if mean is None else mean.flatten().tolist(),
        std if std is None else std.flatten().tolist(), bool(swaps))


def _preprocessing(mean: Any, std: Any, to_rgb: bool) -> dict[str, Any]:
    coloured = mean is None or len(mean) == 3
    return dict(
        mean=None if mean is None else [float(v) for v in mean],
        std=None if std is None else [float(v) for v in std],
        channel_order='rgb' if to_rgb else 'bgr' if coloured else 'file')


def checkpoint_preprocessing(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Preprocessing of the images that a checkpoint was trained with.

    Args:
        checkpoint: An exported backbone (its meta says so) or a training
            checkpoint (its config says so).

    Returns:
        dict: As :func:`preprocessing_of_config`.
    """
    meta = checkpoint.get('meta') or {}
    if 'channel_order' in meta:
        return {
            key: meta.get(key)
            for key in ('mean', 'std', 'channel_order')
        }
    return preprocessing_of_config(checkpoint_config(checkpoint))


def checkpoint_grid(
        checkpoint: Mapping[str, Any]) -> tuple[int, int] | None:
    """Rows and columns of the position table of a checkpoint, if it says.

    Args:
        checkpoint: An exported backbone or a training checkpoint.

    Returns:
        tuple | None: ``(rows, cols)`` in patches; None also if the encoder has
        no table.
    """
    meta = checkpoint.get('meta') or {}
    if 'grid' in meta:
        if meta['grid'] is None:  # an encoder without a table
            return None
        rows, cols = meta['grid']
        return int(rows), int(cols)
    backbone = (checkpoint_config(checkpoint).get('model') or {}).get(
        'backbone') or {}
    image, patch = backbone.get('img_size'), backbone.get('patch_size')
    if image is None or patch is None:
        return None
    (height, width), (rows, cols) = pair(image), pair(patch)
    return height // rows, width // cols


def pair(value: Any) -> tuple[int, int]:
    """``(height, width)`` of a size that is one number or two."""
    if isinstance(value, (list, tuple)):
        return int(value[0]), int(value[1])
    return int(value), int(value)


def preprocessing_differences(theirs: Mapping[str, Any],
                              ours: Mapping[str, Any],
                              tolerance: float = 1e-2) -> list[str]:
    """Where the preprocessing of a checkpoint and of a model differ.

    Args:
        theirs: Of the checkpoint, as :func:`checkpoint_preprocessing` gives,
            optionally with ``grid``.
        ours: Of the model, as :func:`preprocessing_of_module` gives.
        tolerance: In pixel units of 0 to 255, for mean and std.

    Returns:
        list[str]: One line for each difference that shows both values.
    """
    lines = []
    for key in ('mean', 'std', 'channel_order', 'grid'):
        if key not in theirs or key not in ours:
            continue
        if not _same(theirs[key], ours[key], tolerance):
            lines.append(
                f'{key}: checkpoint {theirs[key]}, model {ours[key]}')
    return lines


def _same(a: Any, b: Any, tolerance: float) -> bool:
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(
            abs(x - y) <= tolerance for x, y in zip(a, b, strict=True))
    return a == b
