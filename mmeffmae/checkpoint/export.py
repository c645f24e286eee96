# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Export of a pre-trained encoder to a backbone of the stock packages.

The exported file holds plain tensors under ``backbone.`` and mmpretrain's own
names, on a square position grid, and loads into
``mmpretrain.VisionTransformer`` in mmpretrain, mmdet and mmseg without this
package. Encoders that those packages lack (``UMSwin``, ``UMPVT``) load into
themselves.

An encoder that is not a plain vision transformer takes part through two
methods, both optional:

``exportable_as() -> dict``
    The config of the stock backbone that computes the same function, with
    ``type``, ``arch`` (a stock name or a dict), ``img_size``, ``patch_size``
    and whatever else differs from the stock defaults. It raises
    ``ValueError`` saying what has no stock equivalent.

``export_state_dict() -> dict``
    Its weights under the stock names, folded and expanded as needed.

Without them an encoder must be a ``VisionTransformer`` whose weights have the
stock names. Either way the result is loaded into a freshly built stock
backbone, every key of it, and must give the encoder's features.
"""
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mmengine
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, WEIGHT_INITIALIZERS
from mmpretrain.models import VisionTransformer
from torch import Tensor, nn

from mmeffmae.config_hash import config_hash
from mmeffmae.engine.storage import AtomicLocalBackend
from mmeffmae.version import __version__

from .licences import licence_of
from .loading import CheckpointError, load_checkpoint_safely
from .metadata import checkpoint_config, pair, preprocessing_of_config
from .report import Grid, LoadReport, encoder_grid, load_with_report, resize_table
from .snippets import config_snippets

_PREFIX = 'backbone.'
_ARCH_NAMES = ('deit-tiny', 'deit-small', 'base', 'large', 'huge')
#: Output forms of classifiers.
_POOLED = ('avg_featmap', 'cls_token')
#: Where the classes of a config from a checkpoint may be registered.
_SCOPES = ('mmeffmae', 'mmpretrain', 'mmengine')
#: Keys of names that are looked up in a registry.
_TYPES = ('type', 'conv_type')
#: Largest difference of features between encoder and export, relative to the
#: largest feature.
FEATURE_TOLERANCE = 1e-4


@dataclass(frozen=True)
class ExportResult:
    """An exported file.

    Attributes:
        path: The file.
        backbone: Config of the stock backbone, without ``init_cfg``.
        meta: What the file says about itself.
        report: Load report of the stock backbone.
        embed_dims: Width of the encoder.
        num_layers: Depth of the encoder.
        widths: Of the maps of a pyramid encoder; empty for a plain one.
        feature_error: Largest difference of the last feature map between the
            encoder and the stock backbone, relative to the largest feature.
            It is 0 up to rounding unless the position grid was resized.
    """

    path: Path
    backbone: dict[str, Any]
    meta: dict[str, Any]
    report: LoadReport
    embed_dims: int
    num_layers: int
    feature_error: float
    widths: tuple[int, ...] = ()

    def summary(self) -> str:
        """Where the file is and how well it was checked, in two lines."""
        source, grid = self.meta['source_grid'], self.meta['grid']
        lines = [f'exported to {self.path}']
        if source != grid:
            lines.append(
                f'position grid {source[0]}x{source[1]} resized to '
                f'{grid[0]}x{grid[1]}; features of the training size change '
                f'by {self.feature_error:.1e} of the largest')
        else:
            lines.append('features of the stock backbone equal the encoder\'s '
                         f'(largest difference {self.feature_error:.1e})')
        return '\n'.join(lines)

    def snippets(self) -> dict[str, str]:
        """Stock configs that use the file, see :mod:`.snippets`."""
        return config_snippets(
            self.path.resolve(), self.backbone, self.meta, self.embed_dims,
            self.num_layers, self.widths)


def export_backbone(checkpoint: str | os.PathLike,
                    out: str | os.PathLike | None = None,
                    config: str | os.PathLike | None = None,
                    prefix: str = _PREFIX) -> ExportResult:
    """Write the encoder of a checkpoint as a stock backbone.

    Args:
        checkpoint: File written by pre-training, or by training a classifier,
            whose encoder then gives maps in place of a vector. It is read
            without running anything in it.
        out: File to write. Defaults to ``<checkpoint>_backbone.pth``.
        config: Config file of the run, which is executed. Defaults to the
            text that the checkpoint carries, which is not.
        prefix: Where the encoder's tensors are in the checkpoint.

    Returns:
        ExportResult: The file and what was checked.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        CheckpointError: The checkpoint or its config does not fit, or the
            encoder has no stock equivalent.
    """
    path = Path(checkpoint)
    content = load_checkpoint_safely(path)
    settings = _settings(content, config, path)
    encoder = build_encoder(_with_maps(settings), trusted=config is not None)
    read = load_with_report(
        encoder,
        content.get('state_dict', content),
        prefix=prefix,
        source=str(path))
    if read.resized:
        raise CheckpointError(
            f'{path} has other sizes than its config says:\n{read}\n'
            'give the config of the run with --config')
    encoder.eval()

    source_grid = encoder_grid(encoder)
    backbone = stock_config(encoder)
    tensors = stock_tensors(encoder)
    backbone, tensors = _on_square_grid(backbone, tensors, source_grid)
    stock = MODELS.build(dict(backbone, out_type='featmap'))
    report = _load_into_stock(stock, tensors, encoder)
    stock.eval()
    error = _feature_error(encoder, stock)
    grid = encoder_grid(stock)
    if grid == source_grid and error > FEATURE_TOLERANCE:
        raise CheckpointError(
            f'{type(encoder).__name__} and the stock {backbone["type"]} with '
            f'its weights differ by {error:.1e} of the largest feature: the '
            'encoder computes something else; give it the methods '
            'exportable_as and export_state_dict')
    meta = {
        **_meta(content, settings, path),
        **_geometry(backbone, source_grid, grid),
    }
    target = Path(out) if out is not None else path.with_name(
        f'{path.stem}_backbone.pth')
    _write(target, tensors, meta)
    return ExportResult(target, backbone, meta, report, stock.embed_dims,
                        stock.num_layers, error, getattr(stock, 'widths', ()))


def _load_into_stock(stock: nn.Module, tensors: Mapping[str, Tensor],
                     encoder: nn.Module) -> LoadReport:
    try:
        return load_with_report(stock, tensors, source='the export')
    except CheckpointError as error:
        raise CheckpointError(
            f'{type(encoder).__name__} has weights that the stock '
            f'{type(stock).__name__} cannot hold, so it cannot be exported as '
            'it is: give the class the methods exportable_as and '
            f'export_state_dict\n{error}') from error


def _settings(content: Mapping[str, Any],
              config: str | os.PathLike | None,
              path: Path) -> dict[str, Any]:
    if config is not None:
        return Config.fromfile(config).to_dict()
    settings = checkpoint_config(content)
    if not (settings.get('model') or {}).get('backbone'):
        raise CheckpointError(
            f'checkpoint {path} carries no config with model.backbone: give '
            'the config of the run with --config')
    return settings


def _with_maps(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, of a classifier with the maps before its pooling."""
    backbone = dict(settings['model']['backbone'])
    if backbone.get('out_type') in _POOLED:
        backbone['out_type'] = 'featmap'
        backbone.pop('drop_ratio', None)  # dropped tokens leave holes in a map
    return {**settings, 'model': {**settings['model'], 'backbone': backbone}}


def build_encoder(settings: Mapping[str, Any], trusted: bool) -> nn.Module:
    """Build ``model.backbone`` of a config, without loading anything.

    Args:
        settings: The config.
        trusted: Whether the types named may be anything. A registry also
            imports and calls any dotted path, so a config read from a
            checkpoint may only name registered classes.

    Returns:
        nn.Module: The encoder, with arbitrary weights.

    Raises:
        CheckpointError: A type is not allowed, or it cannot be built.
    """
    backbone = dict(settings['model']['backbone'])
    backbone.pop('init_cfg', None)
    scope = settings.get('default_scope') or 'mmpretrain'
    if not trusted:
        _check_types(backbone, scope)
    try:
        with MODELS.switch_scope_and_registry(scope) as registry:
            return registry.build(backbone)
    except Exception as error:
        raise CheckpointError(
            f'the encoder {backbone} of the config cannot be built '
            f'({error}): give the config of the run with --config') from error


def _check_types(value: Any, scope: str) -> None:
    """Let no string of a backbone's settings name what a registry would import."""
    if isinstance(value, Mapping):
        scope = value.get('_scope_', scope)
        for key, item in value.items():
            if key in _TYPES:
                _check_type(item, scope)
            else:
                _check_types(item, scope)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_types(item, scope)
    elif isinstance(value, str) and '.' in value:  # whatever the key is called
        _check_type(value, scope)


def _check_type(name: Any, scope: str) -> None:
    if name is not None and not (
            isinstance(name, str) and _is_registered(name, scope)):
        raise CheckpointError(
            f'the config in the checkpoint builds {name!r} (scope {scope}), which '
            f'is no registered class of {", ".join(_SCOPES)}: if you trust it, '
            'give the config file with --config')


def _is_registered(name: str, scope: str) -> bool:
    """Whether a registry holds a name; for others it imports what it is told."""
    *of, key = name.split('.')
    if len(of) > 1 or not {scope, *of} <= {*_SCOPES}:
        return False
    for root in (MODELS, WEIGHT_INITIALIZERS):
        with root.switch_scope_and_registry(of[0] if of else scope) as registry:
            registry.import_from_location()
        if key in registry.module_dict or not of and key in root.module_dict:
            return True
    return False


def stock_config(encoder: nn.Module) -> dict[str, Any]:
    """Config of the stock backbone that computes what the encoder does.

    Args:
        encoder: A built encoder.

    Returns:
        dict: For the registry, with plain values only.

    Raises:
        CheckpointError: There is no stock equivalent.
    """
    if hasattr(encoder, 'exportable_as'):
        try:
            return dict(encoder.exportable_as())
        except ValueError as error:
            raise CheckpointError(
                f'{type(encoder).__name__} cannot be exported to a stock '
                f'backbone: {error}') from error
    if not isinstance(encoder, VisionTransformer):
        raise CheckpointError(
            f'{type(encoder).__name__} is no VisionTransformer, so it cannot '
            'be exported to a stock backbone: give it the methods '
            'exportable_as and export_state_dict')
    return plain_vit_config(encoder)


def plain_vit_config(encoder: VisionTransformer) -> dict[str, Any]:
    """Config of the stock vision transformer of an encoder's sizes.

    Args:
        encoder: Its stem must be a single convolution.

    Raises:
        CheckpointError: It is not.
    """
    projection = getattr(encoder.patch_embed, 'projection', None)
    if not isinstance(projection, nn.Conv2d):
        raise CheckpointError(
            f'the stem {type(encoder.patch_embed).__name__} of '
            f'{type(encoder).__name__} is no single convolution, so it has no '
            'stock equivalent: give the encoder the methods exportable_as and '
            'export_state_dict')
    config: dict[str, Any] = dict(
        type='mmpretrain.VisionTransformer',
        arch=stock_arch(encoder.arch_settings),
        img_size=_plain_size(encoder.img_size),
        patch_size=_plain_size(projection.kernel_size))
    if projection.in_channels != 3:
        config['in_channels'] = projection.in_channels
    if not encoder.final_norm:
        config['final_norm'] = False
    if not encoder.with_cls_token:
        config['with_cls_token'] = False
    if hasattr(encoder.layers[0].attn.gamma1, 'weight'):
        # The value is loaded; any that is not 0 makes the parameters.
        config['layer_scale_init_value'] = 1e-5
    return config


def stock_arch(settings: Mapping[str, int]) -> str | dict[str, int]:
    """Name of an architecture in stock mmpretrain, else the sizes.

    Args:
        settings: ``embed_dims``, ``num_layers``, ``num_heads`` and
            ``feedforward_channels``.
    """
    sizes = {key: int(settings[key]) for key in (
        'embed_dims', 'num_layers', 'num_heads', 'feedforward_channels')}
    for name in _ARCH_NAMES:
        if VisionTransformer.arch_zoo[name] == sizes:
            return name
    return sizes


def stock_tensors(encoder: nn.Module) -> dict[str, Tensor]:
    """Weights of an encoder under stock names, as plain CPU tensors."""
    state_dict = encoder.export_state_dict() if hasattr(
        encoder, 'export_state_dict') else encoder.state_dict()
    # Cloning also frees a tensor from a storage it shares with others.
    return {
        key: value.detach().cpu().clone()
        for key, value in state_dict.items()
    }


def _on_square_grid(
        backbone: dict[str, Any], tensors: dict[str, Tensor],
        source: Grid | None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Resize the position table: stock loading takes every one for square."""
    if source is None or source[0] == source[1]:
        return backbone, tensors
    side = round((source[0] * source[1])**.5)
    table = tensors['pos_embed']
    extra = table.shape[1] - source[0] * source[1]
    if extra not in (0, 1):  # of tokens, not of patches: its class resizes it
        return backbone, tensors
    table = resize_table(table, source, (side, side), extra)
    height, width = pair(backbone['patch_size'])
    size = _plain_size((side * height, side * width))
    return dict(backbone, img_size=size), dict(tensors, pos_embed=table)


@torch.no_grad()
def _feature_error(encoder: nn.Module, stock: nn.Module) -> float:
    height, width = pair(encoder.img_size)
    channels = stock.patch_embed.projection.in_channels
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, channels, height, width, generator=generator)
    # Without a plan; mmpretrain's own MAE encoder masks unless told not to.
    masks = type(encoder).forward is not VisionTransformer.forward
    outputs = encoder(image, None) if masks else encoder(image)
    ours, theirs = _feature_map(encoder, outputs), stock(image)[-1]
    return float((ours - theirs).abs().max() / ours.abs().max())


def _feature_map(encoder: nn.Module, outputs: Any) -> Tensor:
    """Last output of an encoder as ``(B, C, rows, cols)``."""
    features = outputs[-1]
    if features.dim() == 4:
        return features
    rows, cols = encoder_grid(encoder) or (1, features.shape[1])
    features = features[:, features.shape[1] - rows * cols:]
    return features.transpose(1, 2).reshape(len(features), -1, rows, cols)


def _meta(content: Mapping[str, Any], settings: Mapping[str, Any],
          path: Path) -> dict[str, Any]:
    model = settings['model']
    parts = [model] + [
        model[key] for key in ('masking', 'head') if model.get(key)
    ]
    recorded = content.get('meta') or {}
    meta = dict(
        method=' + '.join(str(part['type']) for part in parts),
        config_hash=config_hash(settings),
        source=path.name,
        mmeffmae_version=__version__,
        mmengine_version=mmengine.__version__,
        torch_version=str(torch.__version__))
    started = _initial_weights(settings)
    if started:
        meta['initial_weights'] = started
    for key in ('experiment_name', 'epoch', 'iter', 'seed'):
        if isinstance(recorded.get(key), (str, int)):
            meta[key] = recorded[key]
    preprocessing = preprocessing_of_config(settings)
    if not preprocessing:
        raise CheckpointError(
            f'the config of {path} has no data_preprocessor, so the mean, std '
            'and channel order of its images are unknown: give the config of '
            'the run with --config')
    return {**meta, **preprocessing}


def _initial_weights(settings: Mapping[str, Any]) -> str:
    """File that the encoder started from, and its licence where it is there."""
    init = settings['model']['backbone'].get('init_cfg')
    if not isinstance(init, Mapping) or init.get('type') != 'Pretrained':
        return ''
    file = init['checkpoint']
    content = load_checkpoint_safely(file) if Path(file).is_file() else {}
    return f'{Path(file).name}, {licence_of(file, content)}'


def _geometry(backbone: Mapping[str, Any], source_grid: Grid | None,
              grid: Grid | None) -> dict[str, Any]:
    return dict(
        arch=backbone['arch'],
        img_size=backbone['img_size'],
        patch_size=backbone['patch_size'],
        source_grid=None if source_grid is None else list(source_grid),
        grid=None if grid is None else list(grid))


def _write(target: Path, tensors: Mapping[str, Tensor],
           meta: Mapping[str, Any]) -> None:
    buffer = io.BytesIO()
    state_dict = {_PREFIX + key: value for key, value in tensors.items()}
    torch.save(dict(state_dict=state_dict, meta=dict(meta)), buffer)
    AtomicLocalBackend().put(buffer.getvalue(), target)


def _plain_size(value: Any) -> int | list[int]:
    """One number for a square, else ``[height, width]``."""
    height, width = pair(value)
    return height if height == width else [height, width]
