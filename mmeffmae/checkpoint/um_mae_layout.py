# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Names of UM-MAE's official checkpoints (https://arxiv.org/abs/2205.10063).

Those of its Swin and PVT, in pre-training, fine-tuning and dense tasks. Its
plain ViT has timm's names, see :mod:`.layouts`.
"""
import re
from collections.abc import Mapping

import torch
from torch import Tensor

_MARKER = 'patch_embed.proj.weight'
#: Beside the encoder: heads, decoders, and the maps to a pyramid's width.
_FOREIGN = re.compile(r'(mask_token$|head\.|decoder_|up\d\.|fpn\d\.)')
_PARTS = (
    (r'patch_embed\.proj\.', 'patch_embed.projection.'),
    (r'vis_mask_token$', 'mask_token'),
    (r'norm\.', 'norm3.'),
    # The one part of a merge that is no norm is its convolution.
    (r'(blocks\.\d+\.downsample\.)(?!norm\.)(?:\w+\.)?(?=weight|bias)',
     r'\1reduction.'),
    # A sequence of convolution, ReLU and convolution.
    (r'(blocks\.\d+\.)(?:attn\.)?posmlp\.0\.', r'\1attn.posmlp.fc1.'),
    (r'(blocks\.\d+\.)(?:attn\.)?posmlp\.2\.', r'\1attn.posmlp.fc2.'),
    (r'(blocks\.\d+\.)mlp\.fc1\.', r'\1ffn.layers.0.0.'),
    (r'(blocks\.\d+\.)mlp\.fc2\.', r'\1ffn.layers.1.'),
)
_DECODER_PARTS = (
    (r'mask_token$', 'mask_token'),
    (r'decoder_norm\.', 'ln1.'),
    (r'(decoder_blocks\.\d+\.)norm([12])\.', r'\1ln\2.'),
    (r'(decoder_blocks\.\d+\.)mlp\.fc1\.', r'\1ffn.layers.0.0.'),
    (r'(decoder_blocks\.\d+\.)mlp\.fc2\.', r'\1ffn.layers.1.'),
)
#: 1 × 1 convolutions there, linear maps here.
_LINEAR = re.compile(r'\.(posmlp\.fc[12]|attn\.sr)\.weight$')


def _rename(key: str, parts: tuple[tuple[str, str], ...]) -> str:
    for theirs, ours in parts:
        renamed, count = re.subn(f'^{theirs}', ours, key)
        if count:
            return renamed
    return key


def is_official(tensors: Mapping[str, Tensor]) -> bool:
    """Whether tensors have the official names rather than ours."""
    return _MARKER in tensors


def encoder_from_official(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An encoder's tensors under the names of ``UMSwin`` and ``UMPVT``.

    Args:
        tensors: Of an official checkpoint, or under our names already.

    Returns:
        dict: Without heads and decoder; unknown names stay, for the load
        report.
    """
    if not is_official(tensors):
        return dict(tensors)
    own = {}
    for key, value in tensors.items():
        if _FOREIGN.match(key):
            continue
        name = _rename(key, _PARTS)
        own[name] = value.flatten(1) if _LINEAR.search(name) else value
    return own


def decoder_from_official(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A pre-training checkpoint's decoder under ``PixelShuffleDecoder``'s names.

    Args:
        tensors: Of an official checkpoint.

    Returns:
        dict: Empty if the file has no decoder.
    """
    own = {
        _rename(key, _DECODER_PARTS): value
        for key, value in tensors.items()
        if key.startswith('decoder_') or key == 'mask_token'
    }
    table = own.get('decoder_pos_embed')
    if table is not None and round(table.shape[1]**.5)**2 == table.shape[1]:
        # Theirs has no row for a class token.
        own['decoder_pos_embed'] = torch.cat(
            [table.new_zeros(1, 1, table.shape[2]), table], dim=1)
    return own
