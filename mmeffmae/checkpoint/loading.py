# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Reading checkpoint files without running what is inside them.

A ``.pth`` file is a pickle, and unpickling can call any function. Torch's
``weights_only=True`` refuses that, but it also refuses what mmengine writes
beside the weights: logged scalars, which are numpy arrays in
``HistoryBuffer`` objects. Here these few classes are allowed by name and
nothing else is; a file that needs more is an error. One switch relaxes this
for files whose origin is known: the environment variable
``MMEFFMAE_TRUST_CHECKPOINTS=1``, which every tool and every process of a
distributed run sees.
"""
import argparse
import hashlib
import logging
import os
import re
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any
from urllib.parse import urlparse
from zipfile import BadZipFile, ZipFile, is_zipfile

import numpy as np
import torch
from mmengine.dist import barrier, get_local_rank
from mmengine.fileio import get as read_bytes
from mmengine.logging import HistoryBuffer, print_log
from mmengine.runner.checkpoint import CheckpointLoader

from mmeffmae.compat import checkpoint_schemes, model_zoo_url

#: Environment variable: 1 lets files run code that :func:`load_checkpoint_safely`
#: refuses otherwise.
TRUST_SWITCH = 'MMEFFMAE_TRUST_CHECKPOINTS'
_NUMPY_CORES = ('numpy._core', 'numpy.core')
_NUMPY_DTYPES = ('bool', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8', 'f2',
                 'f4', 'f8', 'U')


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used, with what is wrong and the mend."""


class UnsafeCheckpointError(CheckpointError):
    """A checkpoint that asks for a global outside the allow-list."""


def _history_statistic(owner: type, name: str) -> Callable:
    """Stand-in for ``getattr``, which a pickled ``HistoryBuffer`` calls.

    The real one would let a file reach any object of the process.
    """
    if owner is not HistoryBuffer or name not in ('min', 'max', 'current',
                                                  'mean'):
        raise UnpicklingError(
            f'Unsupported global: GLOBAL getattr({owner!r}, {name!r}) was not')
    return getattr(HistoryBuffer, name)


def safe_globals() -> list[Callable | tuple[Callable, str]]:
    """What a checkpoint may name: the classes mmengine writes, no more.

    Returns:
        list: Entries for :func:`torch.serialization.safe_globals`.
    """
    reconstruct: Callable = np.asarray(0).__reduce__()[0]  # type: ignore
    scalar: Callable = np.float64(0).__reduce__()[0]  # type: ignore
    # Namespaces, which hold the options of a run, are in the files of the
    # original MAE, DeiT and timm.
    allowed: list[Any] = [
        HistoryBuffer, np.ndarray, np.dtype, argparse.Namespace,
        (_history_statistic, 'builtins.getattr')
    ]
    allowed += [type(np.dtype(code)) for code in _NUMPY_DTYPES]
    for name in _NUMPY_CORES:  # numpy 1 and 2 name the same functions
        allowed += [(reconstruct, f'{name}.multiarray._reconstruct'),
                    (scalar, f'{name}.multiarray.scalar')]
    return allowed


def _beside(path: Path) -> str:
    if not path.parent.is_dir():
        return f'its folder {path.parent} does not exist'
    names = sorted(p.name for p in path.parent.glob('*.pth'))
    return 'the .pth files there are ' + ', '.join(
        names[:8]) if names else 'there is no .pth file in its folder'


def _refused_global(message: str) -> str | None:
    found = re.search(r'GLOBAL (.+?) (?:was not|whose module)', message)
    if found:
        return found.group(1)
    found = re.search(r'(?:unrecognized function|but got) (.+)', message)
    return found.group(1) if found else None


def load_checkpoint_safely(path: str | os.PathLike,
                           map_location: Any = 'cpu') -> dict[str, Any]:
    """Load a checkpoint file; nothing in the file can run code.

    Args:
        path: A local file written by :func:`torch.save`, or a
            ``.safetensors`` file.
        map_location: As in :func:`torch.load`.

    Returns:
        dict: The checkpoint: a bare state dict, or a dict with
        ``state_dict`` and, if the file is ours, ``meta``. Weights under
        ``model``, where other libraries keep them, are moved to
        ``state_dict``.

    Raises:
        FileNotFoundError: There is no such file.
        UnsafeCheckpointError: The file names a global that is not allowed.
        CheckpointError: The file is truncated, damaged or no checkpoint.
    """
    if not str(path):
        raise FileNotFoundError(
            'no checkpoint is named: give model.backbone.init_cfg.checkpoint=FILE '
            'in --cfg-options, or --init FILE')
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(
            f'checkpoint {file} is not a file: {_beside(file)}')
    if file.suffix == '.safetensors':
        return dict(state_dict=_load_safetensors(file, map_location))
    with open(file, 'rb') as stream:
        return _load_stream(stream, str(file), map_location)


def _load_stream(stream: IO[bytes], name: str, map_location: Any) -> dict[str, Any]:
    """The checkpoint in a stream, in the form that we use."""
    try:
        _check_sums(stream)
        with torch.serialization.safe_globals(safe_globals()):
            checkpoint = torch.load(
                stream, map_location=map_location, weights_only=True)
    except (UnpicklingError, EOFError, RuntimeError, BadZipFile, ValueError,
            KeyError, IndexError, AttributeError, TypeError) as error:
        clear = _explain(name, stream, error)
        if not isinstance(clear, UnsafeCheckpointError) or not trusts_files():
            raise clear from error
        print_log(
            f'{TRUST_SWITCH} is set: checkpoint {name} is unpickled without '
            'limits. A prepared file can do whatever you can: read and delete '
            'files, send keys away. Unset it for files of other people',
            logger='current', level=logging.WARNING)
        stream.seek(0)
        checkpoint = torch.load(
            stream, map_location=map_location, weights_only=False)
    if not isinstance(checkpoint, dict):
        raise CheckpointError(
            f'checkpoint {name} holds a {type(checkpoint).__name__}, not a '
            'dict of weights: give a file saved by training or by '
            'tools/export_backbone.py')
    if 'state_dict' not in checkpoint and isinstance(
            checkpoint.get('model'), Mapping):
        checkpoint['state_dict'] = checkpoint.pop('model')
    # On resume, mmengine would execute this text as a config; it writes its
    # own under another name.
    if isinstance(checkpoint.get('meta'), dict):
        checkpoint['meta'].pop('config', None)
    return checkpoint


def trusts_files() -> bool:
    """Whether the user lets checkpoints run code; see ``TRUST_SWITCH``."""
    return os.environ.get(TRUST_SWITCH, '0') not in ('', '0')


def _check_sums(stream: IO[bytes]) -> None:
    """Raise BadZipFile where a file's bytes are not those that were written.

    Torch stores check sums but does not look at them.
    """
    if is_zipfile(stream):
        with ZipFile(stream) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise BadZipFile(f'{damaged} does not have its check sum')
    stream.seek(0)


def _load_safetensors(file: Path, map_location: Any) -> dict[str, torch.Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise CheckpointError(
            f'checkpoint {file} needs the package safetensors: install '
            'mmeffmae[interop]') from error
    try:
        tensors = load_file(file)
    except SafetensorError as error:
        with open(file, 'rb') as stream:
            raise _explain(str(file), stream, error) from error
    if isinstance(map_location, (str, torch.device)):
        return {key: value.to(map_location) for key, value in tensors.items()}
    return tensors


def _explain(name: str, stream: IO[bytes], error: Exception) -> CheckpointError:
    """Turn what torch raised into place, cause and mend."""
    refused = _refused_global(str(error))
    if isinstance(error, UnpicklingError) and refused:
        return UnsafeCheckpointError(
            f'checkpoint {name} asks to load {refused}, which could run code '
            'and is not allowed. If you trust its origin, save its weights '
            'as plain tensors first: torch.save({"state_dict": torch.load('
            f'"{name}", weights_only=False)["state_dict"]}}, "plain.pth"), '
            f'or set {TRUST_SWITCH}=1, which lets every checkpoint that is '
            'loaded run any code')
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    if size == 0 or stream.read(4) == b'PK\x03\x04':
        return CheckpointError(
            f'checkpoint {name} ({size} bytes) is truncated or damaged '
            f'({_first_line(error)}): copy or download it again, or resume '
            'from an older one')
    return CheckpointError(
        f'{name} ({size} bytes) is not a readable checkpoint '
        f'({_first_line(error)}): give a .pth file written by torch.save')


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f'{type(error).__name__}: {text[0][:120] if text else ""}'.rstrip(
        ': ')


def load_from_local_safely(filename: str,
                           map_location: Any = None) -> dict[str, Any]:
    """:func:`load_checkpoint_safely` with the signature mmengine asks for."""
    return load_checkpoint_safely(filename, map_location)


def load_from_http_safely(filename: str,
                          map_location: Any = None) -> dict[str, Any]:
    """Download a checkpoint once into torch's cache and load it safely.

    Args:
        filename: ``http://`` or ``https://`` address.
        map_location: As in :func:`torch.load`.

    Returns:
        dict: As :func:`load_checkpoint_safely`.
    """
    folder = Path(torch.hub.get_dir()) / 'checkpoints'
    name = Path(urlparse(filename).path).name
    # Files of one name lie at many addresses, unless it holds the content's hash as
    # those of torch and OpenMMLab, which others look for under it.
    if not torch.hub.HASH_REGEX.search(name):
        name = f'{hashlib.sha256(filename.encode()).hexdigest()[:12]}_{name}'
    file = folder / name
    # One process of each machine downloads, the others wait for the file.
    if get_local_rank() == 0 and not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(filename, str(file))
    barrier()
    return load_checkpoint_safely(file, map_location)


def load_from_store_safely(filename: str,
                           map_location: Any = None) -> dict[str, Any]:
    """Load a checkpoint from an object store that mmengine knows."""
    return _load_stream(BytesIO(read_bytes(filename)), filename, map_location)


def load_from_zoo_safely(filename: str,
                         map_location: Any = None) -> dict[str, Any]:
    """Load a checkpoint that a model zoo names, as ``torchvision://resnet50``."""
    try:
        url = model_zoo_url(filename)
    except KeyError as error:
        raise CheckpointError(error.args[0]) from error
    return load_from_http_safely(url, map_location)


def refuse_scheme(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Stand-in for loaders that unpickle what they get."""
    raise CheckpointError(
        f'checkpoint {filename}: addresses of this kind cannot be read '
        'safely: download the file and give its path')


def register_safe_loader() -> None:
    """Make mmengine read every checkpoint safely, wherever it lies.

    From here on ``load_from``, ``resume`` and ``init_cfg=dict(
    type='Pretrained')`` use it. Calling it again changes nothing.
    """
    loaders = {
        '': load_from_local_safely,
        'http://': load_from_http_safely,
        'https://': load_from_http_safely,
    }
    for scheme in checkpoint_schemes():
        if 's3://' in scheme or 'petrel://' in scheme:
            loaders[scheme] = load_from_store_safely
        elif scheme in ('modelzoo://', 'torchvision://', 'open-mmlab://',
                        'openmmlab://', 'mmcls://'):
            loaders[scheme] = load_from_zoo_safely
        else:
            loaders.setdefault(scheme, refuse_scheme)
    for scheme, loader in loaders.items():
        CheckpointLoader.register_scheme(
            prefixes=scheme, loader=loader, force=True)
