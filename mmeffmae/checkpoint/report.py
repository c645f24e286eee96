# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Load report: which tensors of a checkpoint reach a module, key by key.

The stack loads weights non-strictly and silently. A wrong prefix then loads
nothing, and training goes on from random weights. Here anything under 100 %
of an encoder's keys is an error, except for keys that are allowed by name.

An encoder may declare keys that its output form adds or drops with a method
``optional_keys() -> {'missing': [...], 'unexpected': [...]}`` of patterns
(:mod:`fnmatch`). :func:`optional_keys` knows those of mmpretrain's
``VisionTransformer``. One that also takes the names of other libraries has a
method ``to_own_names(tensors) -> tensors``.
"""
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch

import torch
from torch import Tensor, nn

from mmeffmae.compat import run_load_hooks

from .loading import CheckpointError

Shape = tuple[int, ...]
Grid = tuple[int, int]

# A classification head that some files keep beside the encoder's tensors.
_HEAD_KEYS = ('fc.*', 'head.*')


@dataclass(frozen=True)
class LoadReport:
    """What of a state dict fits a module.

    Attributes:
        source: Where the tensors come from, for messages.
        target: Class of the module.
        loaded: Keys whose tensors fit as they are.
        resized: Keys whose tensors the module resizes when it loads.
        missing: Keys of the module that the file lacks.
        unexpected: Keys of the file that the module lacks.
        mismatched: Keys whose shapes differ beyond what resizing mends.
        allowed: The missing and unexpected keys that are allowed by name.
        shapes: ``key -> (shape in the file, shape in the module)`` for the
            resized and mismatched keys.
    """

    source: str
    target: str
    loaded: tuple[str, ...] = ()
    resized: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()
    allowed: frozenset = frozenset()
    shapes: Mapping[str, tuple[Shape, Shape]] | None = None

    @property
    def num_keys(self) -> int:
        """Keys of the module, without those allowed to be missing."""
        required = [key for key in self.missing if key not in self.allowed]
        return len(self.loaded) + len(self.resized) + len(
            self.mismatched) + len(required)

    @property
    def coverage(self) -> float:
        """Percentage of :attr:`num_keys` that the file fills."""
        filled = len(self.loaded) + len(self.resized)
        return 100. * filled / self.num_keys if self.num_keys else 0.

    @property
    def complete(self) -> bool:
        """Whether every key found its place or is allowed by name."""
        strays = set(self.missing) | set(self.unexpected)
        return bool(self.num_keys) and not self.mismatched \
            and strays <= self.allowed

    def __str__(self) -> str:
        rows = [f'load report: {self.source} -> {self.target}']
        of_module = self.num_keys + len(set(self.missing) & self.allowed)
        of_file = of_module - len(self.missing) + len(self.unexpected)
        for name, keys, total in (
            ('loaded', self.loaded, of_module),
            ('resized', self.resized, of_module),
            ('mismatched', self.mismatched, of_module),
            ('missing', self.missing, of_module),
            ('unexpected', self.unexpected, of_file)):
            if name == 'mismatched' and not keys:
                continue
            share = 100. * len(keys) / total if total else 0.
            listed = '' if name == 'loaded' else self._list(keys)
            rows.append(f'  {name:<10} {len(keys):>5} {share:>6.1f} %  '
                        f'{listed}'.rstrip())
        rows.append(f'  coverage   {self.coverage:.1f} % of {self.num_keys} '
                    'required keys')
        return '\n'.join(rows)

    def _list(self, keys: Sequence[str], limit: int = 4) -> str:
        words = []
        for key in keys[:limit]:
            word = key
            if self.shapes and key in self.shapes:
                word += ' {} -> {}'.format(*self.shapes[key])
            if key in self.allowed:
                word += ' (allowed)'
            words.append(word)
        more = [f'and {len(keys) - limit} more'] if len(keys) > limit else []
        return ', '.join(words + more)


def optional_keys(module: nn.Module) -> dict[str, list[str]]:
    """Keys that may be missing or unexpected for the module's output form.

    Args:
        module: An encoder; its method ``optional_keys`` is asked first.

    Returns:
        dict: ``missing`` and ``unexpected``, lists of patterns.
    """
    if hasattr(module, 'optional_keys'):
        return module.optional_keys()
    missing: list[str] = []
    unexpected = list(_HEAD_KEYS)
    if not getattr(module, 'final_norm', True):
        unexpected.append('ln1.*')
    if hasattr(module, 'out_type'):
        # The norm after averaging is new in a classifier.
        target = missing if module.out_type == 'avg_featmap' else unexpected
        target.append('ln2.*')
    if not getattr(module, 'with_cls_token', True):
        unexpected.append('cls_token')
    # What stands for hidden patches in pre-training alone.
    has_token = getattr(module, 'mask_token', None) is not None
    (missing if has_token else unexpected).append('mask_token')
    return dict(missing=missing, unexpected=unexpected)


def select_prefix(state_dict: Mapping[str, Tensor], prefix: str,
                  module: nn.Module, source: str) -> dict[str, Tensor]:
    """Tensors below a prefix, under the names of the module.

    Args:
        state_dict: All tensors of a file.
        prefix: As in ``init_cfg``: ``'backbone.'``; ``''`` takes all.
        module: Where they should go.
        source: Where they come from, for messages.

    Raises:
        CheckpointError: No key has the prefix, or none of the names below
            it is the module's; the message says which prefix would fit.
    """
    if prefix and not prefix.endswith('.'):
        prefix += '.'
    chosen = {
        key[len(prefix):]: value
        for key, value in state_dict.items() if key.startswith(prefix)
    }
    if hasattr(module, 'to_own_names'):
        chosen = module.to_own_names(chosen)
    names = set(module.state_dict())
    if names & set(chosen):
        return chosen
    counts = Counter(
        key.split('.')[0] + '.' if '.' in key else '' for key in state_dict)
    best = max(_prefixes(state_dict), default='', key=lambda p: sum(
        p + name in state_dict for name in names))
    fits = sum(best + name in state_dict for name in names)
    found = ', '.join(
        f'{name!r} ({count} keys)' for name, count in counts.most_common(8))
    mend = (f'set prefix={best!r}, which holds {fits} of the {len(names)} keys'
            if fits else 'no prefix fits: give the checkpoint of a '
            f'{type(module).__name__}')
    raise CheckpointError(
        f'prefix {prefix!r} selects no tensor for {type(module).__name__} in '
        f'{source}; the file has {found or "no tensors"}: {mend}')


def _prefixes(state_dict: Mapping[str, Tensor]) -> list[str]:
    found = {''}
    for key in state_dict:
        parts = key.split('.')
        found.update('.'.join(parts[:n]) + '.' for n in range(1, len(parts)))
    return sorted(found)


def encoder_grid(module: nn.Module) -> Grid | None:
    """Rows and columns of a vision transformer's position table, if any."""
    grid = getattr(module, 'patch_resolution', None)
    if grid is None or getattr(module, 'pos_embed', None) is None:
        return None
    return int(grid[0]), int(grid[1])


def resize_table(table: Tensor, source: Grid, target: Grid,
                 num_extra_tokens: int) -> Tensor:
    """Bicubic resize of a position table.

    Args:
        table: ``(1, extra + rows * cols, C)``.
        source: Rows and columns of the table.
        target: Rows and columns wanted.
        num_extra_tokens: Leading entries to keep, such as the class token's.

    Returns:
        Tensor: ``(1, extra + target rows * target cols, C)``.
    """
    # Importing mmpretrain's models takes seconds; only a resize needs them.
    from mmpretrain.models.utils import resize_pos_embed
    return resize_pos_embed(table, source, target, 'bicubic', num_extra_tokens)


def expected_tensors(module: nn.Module,
                     tensors: Mapping[str, Tensor],
                     source_grid: Grid | None = None) -> dict[str, Tensor]:
    """What the module would load, after it resized what it can resize.

    Args:
        module: The module to load into.
        tensors: Under the module's names.
        source_grid: Rows and columns of the file's position table. Without
            it the module takes the square root of the count, which reads a
            12 × 16 table wrongly and leaves a 24 × 24 one as it is in a
            model of 18 × 32.

    Returns:
        dict: Tensors, not yet loaded.
    """
    ready = dict(tensors)
    table, target = ready.get('pos_embed'), encoder_grid(module)
    if table is not None and target is not None and source_grid is not None:
        extra = table.shape[1] - source_grid[0] * source_grid[1]
        if extra in (0, 1):
            ready['pos_embed'] = resize_table(
                table, source_grid, target, extra)
    return run_load_hooks(module, ready)


def compare(module: nn.Module,
            tensors: Mapping[str, Tensor],
            *,
            source: str = 'the state dict',
            allow: Sequence[str] = (),
            source_grid: Grid | None = None) -> LoadReport:
    """Compare tensors with a module by name and shape; nothing is loaded.

    Args:
        module: The module to load into.
        tensors: Under the module's names (see :func:`select_prefix`).
        source: Where they come from, for messages.
        allow: Patterns of keys that may be missing or unexpected, beside
            those of :func:`optional_keys`.
        source_grid: Rows and columns of the file's position table.

    Returns:
        LoadReport: The comparison.

    Raises:
        CheckpointError: A position table cannot be resized, or layers that
            differ cannot be tied.
    """
    own = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    try:
        ready = expected_tensors(module, tensors, source_grid)
    except CheckpointError as error:
        raise CheckpointError(f'{source}: {error}') from error
    except (RuntimeError, ValueError, AssertionError) as error:
        raise CheckpointError(
            f'{source}: the position table of '
            f'{tuple(tensors["pos_embed"].shape)} cannot be resized for '
            f'{type(module).__name__} ({error}): export the checkpoint with '
            'tools/export_backbone.py, which writes a square table') from error
    before = {key: tuple(value.shape) for key, value in tensors.items()}
    groups: dict[str, list[str]] = {
        'loaded': [], 'resized': [], 'missing': [], 'mismatched': []}
    shapes = {}
    for key, shape in own.items():
        if key not in ready:
            groups['missing'].append(key)
            continue
        if tuple(ready[key].shape) != shape:
            groups['mismatched'].append(key)
        elif ready[key] is tensors.get(key, ready[key]):  # or renamed
            groups['loaded'].append(key)
            continue
        else:
            groups['resized'].append(key)
        shapes[key] = (before.get(key, tuple(ready[key].shape)), shape)
    unexpected = [key for key in ready if key not in own]
    optional = optional_keys(module)
    allowed = [
        key for key in groups['missing']
        if _matches(key, [*optional['missing'], *allow])
        or key.endswith('num_batches_tracked')
    ] + [
        key for key in unexpected
        if _matches(key, [*optional['unexpected'], *allow])
    ]
    return LoadReport(
        source=source,
        target=type(module).__name__,
        unexpected=tuple(unexpected),
        allowed=frozenset(allowed),
        shapes=shapes,
        **{name: tuple(keys) for name, keys in groups.items()})


def _matches(key: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(key, pattern) for pattern in patterns)


def require_complete(report: LoadReport, module: nn.Module,
                     tensors: Mapping[str, Tensor]) -> None:
    """Refuse a report below 100 %.

    Raises:
        CheckpointError: With the first offending keys or shapes, what the
            two architectures look like, and the report.
    """
    if report.complete:
        return
    problems = []
    if report.mismatched:
        key = report.mismatched[0]
        theirs, ours = (report.shapes or {})[key]
        problems.append(
            f'{len(report.mismatched)} tensors have another shape, first '
            f'{key}: {theirs} in the file, {ours} in the model')
    for name, place, keys in (
        ('missing', 'in the file', report.missing),
        ('unexpected', 'in the file', report.unexpected)):
        bad = [key for key in keys if key not in report.allowed]
        if bad:
            problems.append(f'{len(bad)} keys are {name} {place}, first '
                            f'{bad[0]}')
    theirs_arch = describe_encoder(tensors)
    ours_arch = describe_encoder(module.state_dict())
    if theirs_arch and ours_arch and theirs_arch != ours_arch:
        mend = (f'the file looks like an encoder with {theirs_arch}, the model '
                f'has {ours_arch}: set the model\'s arch to it or give another '
                'checkpoint')
    else:
        mend = ('give a checkpoint of this encoder, or allow the keys by '
                'name if they may differ')
    raise CheckpointError(f'{report.source} does not match {report.target}: '
                          f'{"; ".join(problems)}; {mend}\n{report}')


def describe_encoder(tensors: Mapping[str, Tensor]) -> str:
    """Size of a plain vision transformer, read off its tensors.

    Args:
        tensors: Under mmpretrain's names.

    Returns:
        str: Such as ``'embed_dims 768, 12 layers, patch_size 16'``; empty if
        the names are not those of a vision transformer.
    """
    words = []
    if 'pos_embed' in tensors:
        words.append(f'embed_dims {tensors["pos_embed"].shape[-1]}')
    depths = [
        int(key.split('.')[1]) for key in tensors
        if key.startswith('layers.') and key.split('.')[1].isdigit()
    ]
    if depths:
        words.append(f'{max(depths) + 1} layers')
    projection = tensors.get('patch_embed.projection.weight')
    if projection is not None:
        words.append(f'patch_size {projection.shape[-1]}')
    return ', '.join(words)


def load_with_report(module: nn.Module,
                     state_dict: Mapping[str, Tensor],
                     *,
                     prefix: str = '',
                     allow: Sequence[str] = (),
                     source: str = 'the state dict',
                     source_grid: Grid | None = None) -> LoadReport:
    """Load weights into a module, all of them or none.

    Args:
        module: The module, usually an encoder.
        state_dict: Tensors of a checkpoint.
        prefix: The part of their names to select and strip.
        allow: Patterns of keys that may be missing or unexpected.
        source: Where the tensors come from, for messages.
        source_grid: Rows and columns of the file's position table, if known.

    Returns:
        LoadReport: What was loaded and resized.

    Raises:
        CheckpointError: The prefix or the architecture does not fit; the
            module is then unchanged.
    """
    tensors = select_prefix(state_dict, prefix, module, source)
    report = compare(
        module, tensors, source=source, allow=allow, source_grid=source_grid)
    require_complete(report, module, tensors)
    module.load_state_dict(
        expected_tensors(module, tensors, source_grid), strict=False)
    return report


def differing_values(module: nn.Module,
                     expected: Mapping[str, Tensor]) -> list[str]:
    """Keys whose values in the module are not the expected ones.

    Args:
        module: A module that should have been loaded.
        expected: From :func:`expected_tensors`.

    Returns:
        list[str]: Keys that differ, beyond a change of type and device.
    """
    wrong = []
    for key, value in module.state_dict().items():
        if key in expected and not torch.allclose(
                value.cpu().float(), expected[key].cpu().to(
                    value.dtype).float(), rtol=1e-4, atol=1e-6):
            wrong.append(key)
    return wrong
