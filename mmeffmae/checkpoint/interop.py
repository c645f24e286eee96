# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Backbones from and for timm and Hugging Face."""
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmeffmae.engine.storage import AtomicLocalBackend

from .layouts import from_own_names, to_own_names
from .loading import CheckpointError, load_checkpoint_safely

_PREFIX = 'backbone.'


def read_backbone(path: str | os.PathLike, target: str | os.PathLike) -> Path:
    """A file that the stock backbones load, from one of any known layout.

    Args:
        path: An exported backbone, which stays as it is, or a vision
            transformer's file under the names of any of
            :data:`mmeffmae.checkpoint.layouts.LAYOUTS`.
        target: Where to write the renamed tensors.

    Returns:
        Path: The file that fits; its tensors are below ``backbone.``.

    Raises:
        CheckpointError: The file cannot be used.
        FileNotFoundError: There is no such file.
    """
    path = Path(path)
    content = load_checkpoint_safely(path)
    tensors = content.get('state_dict', content)
    if any(key.startswith(_PREFIX) for key in tensors):
        return path
    own = to_own_names({
        key: value for key, value in tensors.items() if isinstance(value, Tensor)})
    buffer = io.BytesIO()
    torch.save(dict(state_dict={
        _PREFIX + key: value for key, value in own.items()}), buffer)
    target = Path(target)
    AtomicLocalBackend().put(buffer.getvalue(), target)
    return target


def write_for(layout: str, exported: str | os.PathLike) -> Path:
    """Write an exported backbone beside itself for another library.

    Args:
        layout: ``'timm'``: a file of tensors for ``load_state_dict`` or
            ``checkpoint_path=`` of ``timm.create_model``. ``'huggingface'``:
            a folder for ``ViTModel.from_pretrained``.
        exported: File of ``tools/export_backbone.py``.

    Returns:
        Path: The file or folder.

    Raises:
        CheckpointError: The backbone is none of that library's vision
            transformers, or a package is missing.
    """
    path = Path(exported)
    content = load_checkpoint_safely(path)
    own = {
        key.removeprefix(_PREFIX): value
        for key, value in content['state_dict'].items()
    }
    _check_parts(path, own, content['meta'], layout)
    tensors = from_own_names(own, layout)
    target = path.with_name(f'{path.stem}_{layout}')
    if layout == 'timm':
        target = target.with_suffix('.pth')
        buffer = io.BytesIO()
        torch.save(tensors, buffer)
        AtomicLocalBackend().put(buffer.getvalue(), target)
        return target
    _write_huggingface(target, tensors, content['meta'], own)
    return target


def _check_parts(path: Path, own: Mapping[str, Tensor],
                 meta: Mapping[str, Any], layout: str) -> None:
    """Refuse what the other library would load in part, or read wrongly."""
    scaled = layout == 'huggingface' and any('.gamma1.' in key for key in own)
    for wrong, what in (
        ('cls_token' not in own, 'no class token'),
        ('ln1.weight' not in own, 'no final norm'),
        (scaled, 'layer scale, which ViTModel has not'),
        (meta['channel_order'] == 'bgr', 'input in BGR'),
    ):
        if wrong:
            raise CheckpointError(
                f'{path} has {what}: it cannot be written for {layout}')


def _write_huggingface(folder: Path, tensors: Mapping[str, Tensor],
                       meta: Mapping[str, Any],
                       own: Mapping[str, Tensor]) -> None:
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise CheckpointError(
            f'{folder} needs the package safetensors: install '
            'mmeffmae[interop]') from error
    folder.mkdir(exist_ok=True)
    settings = _huggingface_config(meta, own)
    backend = AtomicLocalBackend()
    backend.put(save(dict(tensors), dict(format='pt')), folder / 'model.safetensors')
    backend.put(
        json.dumps(settings, indent=2).encode(), folder / 'config.json')
    mean, std = ([value / 255 for value in meta[key]] for key in ('mean', 'std'))
    side = settings['image_size']
    backend.put(
        json.dumps(
            dict(
                image_processor_type='ViTImageProcessor', do_resize=True,
                size=dict(height=side, width=side), do_rescale=True,
                rescale_factor=1 / 255, do_normalize=True, image_mean=mean,
                image_std=std), indent=2).encode(),
        folder / 'preprocessor_config.json')


def _huggingface_config(meta: Mapping[str, Any],
                        own: Mapping[str, Tensor]) -> dict[str, Any]:
    # Importing mmpretrain's models takes seconds; only this needs them.
    from mmpretrain.models import VisionTransformer
    arch = meta['arch']
    if isinstance(arch, str):
        arch = VisionTransformer.arch_zoo[arch]
    width, channels = own['patch_embed.projection.weight'].shape[:2]
    return dict(
        architectures=['ViTModel'],
        model_type='vit',
        hidden_size=width,
        num_hidden_layers=1 + max(
            int(key.split('.')[1]) for key in own if key.startswith('layers.')),
        num_attention_heads=arch['num_heads'],
        intermediate_size=len(own['layers.0.ffn.layers.0.0.bias']),
        hidden_act='gelu',
        layer_norm_eps=1e-6,
        image_size=meta['img_size'],
        patch_size=meta['patch_size'],
        num_channels=channels,
        qkv_bias='layers.0.attn.qkv.bias' in own)
