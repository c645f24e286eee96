# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""A name for a config: what result files, exports and records are keyed by."""
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Union

from mmengine.config import Config

#: Settings that say where and under which seed a run happens, not what it is.
_CIRCUMSTANCES = ('work_dir', 'resume', 'load_from', 'launcher', 'randomness',
                  'visualizer', 'vis_backends', 'log_level', 'experiment_name')
#: Settings of an optimizer that say how it computes, not what.
_KERNELS = ('fused', 'foreach')
#: Constructor of the same rates and decays as the default, in fewer groups.
_GROUPED = 'mmeffmae.GroupedOptimWrapperConstructor'


def config_hash(config: Union[Config, Mapping]) -> str:
    """Twelve hexadecimal digits that name a resolved config.

    The seed, the work directory and other circumstances of a run do not
    count, nor do the order of keys and the kernels of an optimizer; of a data
    folder its name counts, but not where it lies.
    """
    plain = config.to_dict() if isinstance(config, Config) else config
    settings = {
        name: value
        for name, value in plain.items()
        if name not in _CIRCUMSTANCES
    }
    text = json.dumps(_without_places(settings), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _without_places(value: Any, name: str = '') -> Any:
    if isinstance(value, dict):
        left_out: tuple[str, ...] = _KERNELS if name == 'optimizer' else ()
        if value.get('constructor') == _GROUPED:
            left_out = ('constructor', )
        return {key: _without_places(item, key) for key, item in value.items()
                if key not in left_out}
    if isinstance(value, (list, tuple)):
        return [_without_places(item) for item in value]
    return Path(value).name if name == 'data_root' and value else value
