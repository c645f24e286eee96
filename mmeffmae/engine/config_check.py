# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Says which setting of a config is wrong, where the stack does not."""
import math
import re
import traceback
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Any

from mmengine.config import Config
from mmengine.registry import FUNCTIONS, OPTIMIZERS, PARAM_SCHEDULERS, Registry

#: More data-loading processes than this are a slip of the keyboard.
_MAX_WORKERS = 512


def _whole(least: int, most: float = math.inf) -> Callable[[Any], bool]:
    return lambda value: (isinstance(value, int) and not isinstance(value, bool)
                          and least <= value <= most)


def _number(value: Any) -> bool:
    return (isinstance(value, (int, float)) and not isinstance(value, bool)
            and math.isfinite(value))


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict)


_POSITIVE = _whole(1), 'a whole number, 1 or more'
_NOT_NEGATIVE = _whole(0), 'a whole number, 0 or more'
_FLAG = (lambda value: isinstance(value, bool)), 'True or False'
_SETTINGS = _is_dict, 'a dict of settings'
_LOADER = {
    'batch_size': _POSITIVE,
    'num_workers': (_whole(0, _MAX_WORKERS),
                    f'a whole number from 0 to {_MAX_WORKERS}'),
    'persistent_workers': _FLAG,
    'dataset': _SETTINGS,
    'sampler': _SETTINGS,
}
#: What the stack takes without a look, and fails on later or not at all.
_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    'model': _SETTINGS,
    'default_hooks': _SETTINGS,
    'optim_wrapper': _SETTINGS,
    'train_cfg': _SETTINGS,
    'train_cfg.max_epochs': _POSITIVE,
    'train_cfg.max_iters': _POSITIVE,
    'train_cfg.val_interval': _POSITIVE,
    'train_cfg.val_begin': _NOT_NEGATIVE,
    'train_cfg.by_epoch': _FLAG,
    'optim_wrapper.accumulative_counts': _POSITIVE,
    'optim_wrapper.optimizer': _SETTINGS,
    'optim_wrapper.optimizer.lr': (
        lambda value: _number(value) and value >= 0, 'a number, 0 or more'),
    'optim_wrapper.optimizer.weight_decay': (
        lambda value: _number(value) and value >= 0, 'a number, 0 or more'),
    'auto_scale_lr.base_batch_size': _POSITIVE,
    'randomness': _SETTINGS,
    'randomness.seed': (
        lambda value: value is None or _whole(0, 2**63 - 1)(value),
        'a whole number, 0 or more, or None'),
    'env_cfg': _SETTINGS,
    'env_cfg.mp_cfg.opencv_num_threads': (
        _whole(0, 2**31 - 1), 'a whole number, 0 or more'),
    'env_cfg.mp_cfg.mp_start_method': (
        lambda value: value in ('fork', 'forkserver', 'spawn'),
        "'fork', 'forkserver' or 'spawn'"),
    'load_from': (lambda value: value is None or isinstance(value, str),
                  'a path, or None'),
    'resume': _FLAG,
    'work_dir': (lambda value: isinstance(value, str) and value != '', 'a path'),
    **{f'{name}_dataloader{dot}{key}': rule
       for name in ('train', 'val', 'test')
       for dot, key, rule in (('', '', _SETTINGS),
                              *(('.', key, rule) for key, rule in _LOADER.items()))},
}
_NAME = re.compile(r'[A-Za-z_]\w*(\.[A-Za-z_]\w*)*')
#: Those of mmengine's Runner.
_DEFAULT_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger',
                  'param_scheduler', 'checkpoint')
#: What the stack misses without saying where.
_NEEDED = (('randomness', 'seed'), *(
    (f'{name}_dataloader', 'dataset') for name in ('train', 'val', 'test')))
#: Parts of which None is as good as not there.
_OPTIONAL = ('default_hooks', 'auto_scale_lr', 'val_dataloader', 'test_dataloader',
             'env_cfg', 'randomness', 'work_dir')


def wrong_settings(cfg: Config) -> list[str]:
    """What is wrong with the settings that every run has.

    Args:
        cfg: Any config.

    Returns:
        list: ``place=value: what is wanted``, one for each wrong setting.
    """
    wrong = []
    for place, (fits, wanted) in _RULES.items():
        value = _find(cfg, place)
        if value is not _ABSENT and not fits(value) and not (
                value is None and place in _OPTIONAL):
            wrong.append(f'{place}={value!r}: use {wanted}')
    for place, settings in _hooks_and_schedulers(cfg):
        if not isinstance(settings, dict):
            wrong.append(f'{place}={settings!r}: use a dict of settings')
            continue
        if not place.startswith('param_scheduler'):
            continue
        for key in ('begin', 'end', 'start_factor', 'gamma'):
            value = settings.get(key, math.inf)
            if not _number(value) and value != math.inf:
                wrong.append(f'{place}.{key}={value!r}: use a number')
            elif key == 'end' and value <= (settings.get('begin') or 0):
                wrong.append(f'{place}.end={value!r}: use more than its begin')
    wrong += [f'{place}: it has no {key}' for place, key in _NEEDED
              if isinstance(_find(cfg, place), dict) and key not in _find(cfg, place)]
    for place, part in _parts(cfg):
        name = part['type']
        if isinstance(name, str) and not _NAME.fullmatch(name):
            wrong.append(f'{place}.type={name!r}: use the name of a class')
    return wrong or _unknown_names(cfg)


def _hooks_and_schedulers(cfg: Config) -> Iterator[tuple[str, Any]]:
    """What must be settings, and its place; also what holds them, if wrong."""
    hooks = cfg.get('default_hooks')
    for name, hook in (hooks.items() if isinstance(hooks, dict) else ()):
        if hook is not None:
            yield f'default_hooks.{name}', hook
    for key in ('custom_hooks', 'param_scheduler'):
        value = cfg.get(key)
        if isinstance(value, (list, tuple)):
            yield from ((f'{key}.{i}', item) for i, item in enumerate(value))
        elif value is not None:
            yield key, value if key == 'param_scheduler' else [value]


def _unknown_names(cfg: Config) -> list[str]:
    """Types that mmengine looks up without saying so when there are none."""
    scope = cfg.get('default_scope')
    parts = [(place, part, PARAM_SCHEDULERS)
             for place, part in _hooks_and_schedulers(cfg)
             if place.startswith('param_scheduler')]
    optimizer = _find(cfg, 'optim_wrapper.optimizer')
    if isinstance(optimizer, dict):
        parts.append(('optim_wrapper.optimizer', optimizer, OPTIMIZERS))
    wrapper = cfg.get('optim_wrapper')
    if isinstance(wrapper, dict) and 'type' in wrapper and 'optimizer' not in wrapper:
        return ['optim_wrapper: it has no optimizer']
    collate = _find(cfg, 'train_dataloader.collate_fn')
    if isinstance(collate, dict):
        parts.append(('train_dataloader.collate_fn', collate, FUNCTIONS))
    wrong = []
    for place, part, registry in parts:
        if 'type' not in part:
            wrong.append(f'{place}: it has no type')
        elif not isinstance(part['type'], str):
            if isinstance(part['type'], (bool, int, float, list, dict, type(None))):
                wrong.append(f'{place}.type={part["type"]!r}: use a name')
        elif not _is_known(part['type'], registry, scope):
            wrong.append(f'{place}.type: there is no {part["type"]!r}'
                         + _similar(part['type']))
    return wrong


def _is_known(name: str, registry: Registry, scope: str | None) -> bool:
    with registry.switch_scope_and_registry(scope) as scoped:
        return scoped.get(name) is not None


def drop_absent_hooks(cfg: Config) -> None:
    """Let ``default_hooks.NAME=None`` leave out any hook.

    mmengine takes it for its own default hooks alone.
    """
    hooks = cfg.get('default_hooks')
    for name in list(hooks) if isinstance(hooks, dict) else ():
        if hooks[name] is None and name not in _DEFAULT_HOOKS:
            del hooks[name]


def is_our_refusal(error: BaseException) -> bool:
    """Whether this package raised a ValueError: it says what to mend."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return isinstance(error, ValueError) and frames[-1].f_globals.get(
        '__name__', '').startswith('mmeffmae.')


_ABSENT = object()


def _find(cfg: Config, place: str) -> Any:
    value: Any = cfg
    for key in place.split('.'):
        if not isinstance(value, (dict, Config)) or key not in value:
            return _ABSENT
        value = value[key]
    return value


def explain_build_error(cfg: Config, error: BaseException) -> str | None:
    """The part of a config that could not be built, and why.

    Args:
        cfg: The config that was built from.
        error: What building it raised.

    Returns:
        One line; None where the error did not come from building a part.
    """
    settings = _being_built(error)
    if settings is None:
        return (_unexpected_argument(cfg, error) or _failing_transform(error)
                or _failing_batch(error))
    name = str(settings.get('type'))
    given = ', '.join(f'{key}={_short(value)}' for key, value in settings.items()
                      if key != 'type')
    places = [place for place, part in _parts(cfg) if part == settings] or [
        place for place, part in _parts(cfg) if part.get('type') == name]
    # mmengine repeats the message at every level of nesting.
    reason = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    hint = ''
    if 'is not in the' in reason and 'registry' in reason:
        reason = f'there is no {name!r}'
        hint = _similar(name)
    return (f'{places[0] if places else "the config"} ({name}) cannot be built from '
            f'{given or "no settings"}: {type(error).__name__}: {reason.strip()}{hint}')


def _unexpected_argument(cfg: Config, error: BaseException) -> str | None:
    """Where an argument is that some function did not expect."""
    found = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if found is None:
        return None
    places = [place for place in _keys(cfg) if place.split('.')[-1] == found[1]]
    return f'{" or ".join(places) or found[1]} is not known: {error}'


def _failing_transform(error: BaseException) -> str | None:
    """Which step of a data pipeline failed, where it ran in this process."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        step = frame.f_locals.get('t')
        if (frame.f_code.co_name == '__call__' and step is not None
                and frame.f_globals.get('__name__') == 'mmengine.dataset.base_dataset'):
            hint = ''
            if isinstance(error, KeyError):
                hint = ': no step before it makes that'
                if getattr(step, 'with_mask', False) and error.args == ('mask', ):
                    hint = (': the labels have no segmentation; for boxes alone, '
                            'without with_mask, see configs/mask_rcnn/README.md')
            return (f'the step {type(step).__name__} of a data pipeline fails with '
                    f'{type(error).__name__}: {error}{hint}')
    return None


def _failing_batch(error: BaseException) -> str | None:
    """Samples that cannot be joined, where they were in this process."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_globals.get('__name__') == 'torch.utils.data._utils.collate':
            return ('what a data pipeline ends with cannot be made a batch '
                    f'({type(error).__name__}: {error}): its last step should be '
                    'PackInputs, or that of the package')
    return None


def _keys(value: Any, place: str = '') -> Iterator[str]:
    items = (value.items() if isinstance(value, (dict, Config)) else
             enumerate(value) if isinstance(value, (list, tuple)) else ())
    for key, item in items:
        below = f'{place}.{key}' if place else str(key)
        yield below
        yield from _keys(item, below)


def _being_built(error: BaseException) -> dict | None:
    """The innermost settings that mmengine was building when it failed."""
    found = None
    chain: BaseException | None = error
    while chain is not None:
        for frame, _ in traceback.walk_tb(chain.__traceback__):
            if frame.f_code.co_name in ('build_from_cfg', 'build_model_from_cfg'):
                cfg = frame.f_locals.get('cfg')
                if isinstance(cfg, dict):
                    found = cfg
        chain = chain.__cause__
    return found


def _parts(value: Any, place: str = '') -> Iterator[tuple[str, dict]]:
    """All dicts with a ``type``, and where they are, outer ones first."""
    if isinstance(value, (dict, Config)):
        if place and 'type' in value:
            yield place, value
        for key, item in value.items():
            yield from _parts(item, f'{place}.{key}' if place else str(key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _parts(item, f'{place}.{index}')


def _short(value: Any, length: int = 160) -> str:
    text = repr(value)
    return text if len(text) <= length else f'{text[:length]}...'


def _similar(name: str) -> str:
    """Registered names like an unknown one."""
    from mmengine import registry as registries
    bare = name.split('.')[-1]
    known: set[str] = set()
    for value in vars(registries).values():
        if isinstance(value, Registry):
            for scope, child in [('', value), *value.children.items()]:
                known |= {f'{scope}.{key}' if scope else key
                          for key in child.module_dict}
    matches = get_close_matches(
        bare, [key.split('.')[-1] for key in known], n=1, cutoff=0.75)
    if not matches:
        return ': check the name, and that its module is imported'
    full = sorted(key for key in known if key.split('.')[-1] == matches[0])
    return f': did you mean {full[0]!r}?'
