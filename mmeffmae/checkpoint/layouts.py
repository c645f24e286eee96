# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Names of a plain vision transformer's weights in other libraries.

Ours are mmpretrain's. Files of timm (also the original MAE and DINOv2 files)
and of Hugging Face are renamed when they are read, so that ``init_cfg``,
``load_from``, probes and the load report take them as they are; exports can
be written under their names.
"""
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch

import torch
from torch import Tensor

from .loading import CheckpointError

_QKV = ('query', 'key', 'value')


@dataclass(frozen=True)
class Layout:
    """Names of one library.

    Attributes:
        name: Of the library.
        marker: Pattern (:mod:`re`) of a key that only its files have.
        names: Their name, our name; ``{}`` stands for a layer. A prefix of
            a key ending at a dot is a name, too. Of two of their names for
            one of ours the first is written.
        foreign: Patterns (:mod:`fnmatch`) of keys beside the encoder.
    """
    name: str
    marker: str
    names: tuple[tuple[str, str], ...]
    foreign: tuple[str, ...]


_TIMM = Layout(
    'timm',
    r'patch_embed\.proj\.weight',
    (
        ('cls_token', 'cls_token'),
        ('pos_embed', 'pos_embed'),
        ('patch_embed.proj', 'patch_embed.projection'),
        ('blocks.{}.norm1', 'layers.{}.ln1'),
        ('blocks.{}.attn.qkv', 'layers.{}.attn.qkv'),
        ('blocks.{}.attn.proj', 'layers.{}.attn.proj'),
        ('blocks.{}.ls1.gamma', 'layers.{}.attn.gamma1.weight'),
        ('blocks.{}.norm2', 'layers.{}.ln2'),
        ('blocks.{}.mlp.fc1', 'layers.{}.ffn.layers.0.0'),
        ('blocks.{}.mlp.fc2', 'layers.{}.ffn.layers.1'),
        ('blocks.{}.ls2.gamma', 'layers.{}.ffn.gamma2.weight'),
        ('norm', 'ln1'),
        ('fc_norm', 'ln2'),
    ),
    ('mask_token', 'vis_mask_token', 'head.*', 'decoder_*'),
)

_HUGGINGFACE = Layout(
    'huggingface',
    r'(\w+\.)?embeddings\.patch_embeddings\.projection\.weight',
    (
        ('embeddings.cls_token', 'cls_token'),
        ('embeddings.position_embeddings', 'pos_embed'),
        ('embeddings.patch_embeddings.projection', 'patch_embed.projection'),
        *(pair for i, part in enumerate(_QKV) for pair in (
            (f'encoder.layer.{{}}.attention.attention.{part}',
             f'layers.{{}}.attn.{part}'),
            (f'layers.{{}}.attention.{part[0]}_proj',
             f'layers.{{}}.attn.{part}'),
            (f'encoder.layer.{{}}.attention.{part[0]}_proj',
             f'layers.{{}}.attn.{part}'))),
        ('encoder.layer.{}.attention.output.dense', 'layers.{}.attn.proj'),
        ('encoder.layer.{}.layernorm_before', 'layers.{}.ln1'),
        ('encoder.layer.{}.layernorm_after', 'layers.{}.ln2'),
        ('encoder.layer.{}.intermediate.dense', 'layers.{}.ffn.layers.0.0'),
        ('encoder.layer.{}.output.dense', 'layers.{}.ffn.layers.1'),
        ('layernorm', 'ln1'),
        # Of models in memory since transformers 5; its files keep the above.
        ('layers.{}.attention.o_proj', 'layers.{}.attn.proj'),
        ('layers.{}.layernorm_before', 'layers.{}.ln1'),
        ('layers.{}.layernorm_after', 'layers.{}.ln2'),
        ('layers.{}.mlp.fc1', 'layers.{}.ffn.layers.0.0'),
        ('layers.{}.mlp.fc2', 'layers.{}.ffn.layers.1'),
        # DINOv2
        ('encoder.layer.{}.attention.o_proj', 'layers.{}.attn.proj'),
        ('encoder.layer.{}.norm1', 'layers.{}.ln1'),
        ('encoder.layer.{}.norm2', 'layers.{}.ln2'),
        ('encoder.layer.{}.mlp.fc1', 'layers.{}.ffn.layers.0.0'),
        ('encoder.layer.{}.mlp.fc2', 'layers.{}.ffn.layers.1'),
        ('encoder.layer.{}.layer_scale1.lambda1',
         'layers.{}.attn.gamma1.weight'),
        ('encoder.layer.{}.layer_scale2.lambda1',
         'layers.{}.ffn.gamma2.weight'),
    ),
    ('embeddings.mask_token', 'pooler.*', 'classifier.*', 'decoder.*'),
)

#: By name; mmpretrain's own names need no entry.
LAYOUTS = {layout.name: layout for layout in (_TIMM, _HUGGINGFACE)}


def to_own_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An encoder's tensors under mmpretrain's names.

    Args:
        tensors: Of a plain vision transformer, under the names of any of
            :data:`LAYOUTS` or under mmpretrain's. Heads, decoders and mask
            tokens of a known layout are left out.

    Returns:
        dict: Names unknown to the layout stay, for the load report.

    Raises:
        CheckpointError: The file has register tokens, which no encoder here
            has.
    """
    for layout in LAYOUTS.values():
        markers = [key for key in tensors if re.fullmatch(layout.marker, key)]
        if markers:
            return _translate(tensors, layout, markers[0])
    return dict(tensors)


def _translate(tensors: Mapping[str, Tensor], layout: Layout,
               marker: str) -> dict[str, Tensor]:
    registers = [key for key in tensors if re.search('reg(ister)?_token', key)]
    if registers:
        raise CheckpointError(
            f'{registers[0]} ({layout.name} layout): encoders with register '
            'tokens cannot be loaded; take the variant without registers')
    match = re.match(r'\w+\.(?=embeddings\.)', marker)
    prefix = match.group() if match else ''
    renames = dict(layout.names)
    own = {}
    for key, value in tensors.items():
        name = key.removeprefix(prefix)
        if not any(fnmatch(name, pattern) for pattern in layout.foreign):
            own[_rename(name, renames)] = value
    return _join_qkv(own)


def _rename(key: str, names: Mapping[str, str]) -> str:
    layer = re.search(r'\.(\d+)\.', key)
    number = layer.group(1) if layer else ''
    general = key.replace(f'.{number}.', '.{}.', 1) if layer else key
    name, dot, last = general.rpartition('.')
    if general in names:
        return names[general].format(number)
    if name in names:
        return f'{names[name].format(number)}{dot}{last}'
    return key


def _join_qkv(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    joined = {}
    for key, value in tensors.items():
        if '.attn.query.' in key:
            parts = [key.replace('.query.', f'.{part}.') for part in _QKV]
            missing = [part for part in parts if part not in tensors]
            if missing:
                raise CheckpointError(
                    f'{missing[0]} is missing beside {key}: the attention of '
                    'this file has no such part, as in BEiT, and cannot be '
                    'loaded into a plain vision transformer')
            joined[key.replace('.query.', '.qkv.')] = torch.cat(
                [tensors[part] for part in parts])
        elif '.attn.key.' not in key and '.attn.value.' not in key:
            joined[key] = value
    return joined


def from_own_names(tensors: Mapping[str, Tensor],
                   layout: str) -> dict[str, Tensor]:
    """The reverse: mmpretrain's names to those of another library.

    Args:
        tensors: Of a plain vision transformer.
        layout: One of :data:`LAYOUTS`. For ``'huggingface'`` the names are
            those of ``ViTModel``.

    Raises:
        CheckpointError: A tensor has no name there.
    """
    if layout not in LAYOUTS:
        raise CheckpointError(
            f'layout {layout!r} is unknown: use mmpretrain, '
            f'{", ".join(LAYOUTS)}')
    renames: dict[str, str] = {}
    for theirs, ours in LAYOUTS[layout].names:
        renames.setdefault(ours, theirs)
    if layout == 'huggingface':
        tensors = _split_qkv(tensors)
    renamed = {key: _rename(key, renames) for key in tensors}
    same = [
        key for key, name in renamed.items()
        if key == name and key not in renames
    ]
    if same:
        raise CheckpointError(
            f'{same[0]} has no name in the layout of {layout}: only plain '
            'vision transformers can be written there')
    return {name: tensors[key] for key, name in renamed.items()}


def _split_qkv(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    split = {}
    for key, value in tensors.items():
        if '.attn.qkv.' in key:
            # Copies: the files of safetensors hold no views.
            for part, of_part in zip(_QKV, value.chunk(3)):
                split[key.replace('.qkv.', f'.{part}.')] = of_part.clone()
        else:
            split[key] = value
    return split
