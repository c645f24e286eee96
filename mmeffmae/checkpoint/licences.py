# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Under which licence weights were published, as far as their file says."""
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: File names that their publishers use: pattern (:mod:`re`), licence, origin.
_KNOWN = (
    (r'mae_(pretrain|finetuned|visualize)_vit_(base|large|huge).*',
     'CC-BY-NC 4.0, non-commercial use only', 'the original MAE'),
    (r'vit_\w+\.mae(\W.*)?', 'CC-BY-NC 4.0, non-commercial use only',
     "the original MAE, in timm's layout"),
    (r'dinov2_vit[sblg]14(_reg4)?_pretrain.*', 'Apache-2.0', 'DINOv2'),
    (r'dino_(deitsmall|vitbase)(8|16)_pretrain.*', 'Apache-2.0', 'DINO'),
)


def licence_of(path: str | os.PathLike, content: Mapping[str, Any]) -> str:
    """One line about the licence of a checkpoint's weights.

    A model card (``README.md`` with ``license:`` at its top, as the Hugging Face
    Hub has them) beside the file is believed first, then what an export of this
    package recorded, then the name of the file.

    Args:
        path: The file, under the name it was published with.
        content: Of :func:`mmeffmae.checkpoint.load_checkpoint_safely`.

    Returns:
        str: The licence and how it is known; ``'unknown ...'`` otherwise.
    """
    file = Path(path)
    if licence := _of_card(file.parent / 'README.md'):
        return f'{licence} (says the model card beside the file)'
    meta = content.get('meta') or {}
    if origin := meta.get('initial_weights'):
        return (f'that of your images, and of the weights that training started '
                f'from: {origin}')
    if 'mmeffmae_version' in meta:
        return 'yours: trained by mmeffmae, no other initial weights on record'
    for pattern, licence, origin in _KNOWN:
        if re.fullmatch(pattern, file.name):
            return f'{licence} ({origin}, by the name of the file)'
    return 'unknown: read it where you got the file, before you use the weights'


def _of_card(card: Path) -> str:
    """``license`` of the front matter, or nothing."""
    if not card.is_file():
        return ''
    head = card.read_text(encoding='utf-8', errors='replace')[:4000]
    front = re.match(r'---\n(.*?)\n---', head, re.DOTALL)
    found = front and re.search(
        r'^license:\s*([\w.+-]+)\s*$', front.group(1), re.MULTILINE)
    return found.group(1) if found else ''
