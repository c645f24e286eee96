# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Shows this package's models to ``mmpretrain.list_models`` and ``get_model``.

.. code-block:: python

    import mmpretrain
    from mmeffmae.model_hub import register_models
    register_models()
    mmpretrain.list_models('mmeffmae/*')

Names begin with ``mmeffmae/``, since mmpretrain has configs of the same names.
``mim search mmeffmae`` reads the same index and needs no call.
"""
import tempfile
from pathlib import Path

from mmengine.fileio import dump, load

import mmeffmae


def register_models() -> list[str]:
    """Register all models of ``model-index.yml`` in mmpretrain's hub.

    Calling it again changes nothing.

    Returns:
        list: Their names in the hub.

    Raises:
        FileNotFoundError: The package is neither installed nor in a checkout.
    """
    # Importing it takes a while and is of no use to training.
    from mmpretrain.apis.model import ModelHub
    root = _root()
    content: dict[str, list] = dict(Collections=[], Models=[])
    for metafile in load(root / 'model-index.yml')['Import']:
        for key, entries in load(root / metafile).items():
            content[key] += entries
    for model in content['Models']:
        model['Name'] = f'mmeffmae/{model["Name"]}'
    names = [model['Name'] for model in content['Models']]
    if not ModelHub.has(names[0].lower()):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, 'model-index.yml')
            dump(content, path)
            ModelHub.register_model_index(path, config_prefix=root)
    return names


def _root() -> Path:
    """The folder that the index and the configs lie in."""
    package = Path(mmeffmae.__file__).parent
    for folder in (package / '.mim', package.parent):
        if (folder / 'model-index.yml').is_file():
            return folder
    raise FileNotFoundError(
        f'no model-index.yml in {package}/.mim nor beside {package}: install the '
        'package with pip, or use a checkout')
