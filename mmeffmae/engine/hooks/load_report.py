# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

from mmeffmae.checkpoint.loading import CheckpointError
from mmeffmae.checkpoint.metadata import (
    checkpoint_grid,
    checkpoint_preprocessing,
    preprocessing_differences,
    preprocessing_of_module,
)
from mmeffmae.checkpoint.report import (
    compare,
    differing_values,
    encoder_grid,
    expected_tensors,
    require_complete,
    select_prefix,
)
from mmeffmae.compat import is_training_run
from mmeffmae.registry import HOOKS

_ENCODER = 'backbone'


@HOOKS.register_module()
class LoadReportHook(Hook):
    """Log what every checkpoint fills, and stop below 100 % of the encoder.

    It covers ``init_cfg=dict(type='Pretrained')`` of any part of a
    mmpretrain, mmdet or mmseg model, ``load_from`` and ``resume``. Files are
    compared by name and shape before they are loaded, and by value before the
    first iteration, since mmengine loads non-strictly and some models
    initialise again what they have loaded.

    Args:
        allow (Sequence[str]): Patterns (:mod:`fnmatch`) of keys, below the
            encoder, that may be missing or unexpected.

    Raises:
        CheckpointError: Under 100 % of the encoder's keys fit.
    """

    priority = 'VERY_LOW'

    def __init__(self, allow: Sequence[str] = ()) -> None:
        self.allow = list(allow)
        self._expected: list[tuple[str, nn.Module, dict[str, Tensor]]] = []

    def before_run(self, runner: Runner) -> None:
        """Check the files of all ``Pretrained`` parts that are not loaded."""
        self._expected = []
        if not is_training_run(runner):
            return
        model = _unwrap(runner.model)
        for name, module in model.named_modules():
            settings = _pretrained(module)
            if settings is None or getattr(module, 'is_init', False):
                continue
            path = settings['checkpoint']
            self._check(
                model, module, name, settings.get('prefix') or '', path,
                CheckpointLoader.load_checkpoint(path, 'cpu'))

    def after_load_checkpoint(self, runner: Runner,
                              checkpoint: dict[str, Any]) -> None:
        """Check the file of ``load_from`` or ``resume``.

        mmengine calls this before the weights reach the model.
        """
        self._expected = []
        path = runner.cfg.get('load_from') or f'last of {runner.work_dir}'
        model = _unwrap(runner.model)
        self._check(model, model, '', '', path, checkpoint)

    def before_train(self, runner: Runner) -> None:
        """Check that the loaded values are the file's."""
        self._check_values()

    def before_test(self, runner: Runner) -> None:
        """Check that the loaded values are the file's."""
        self._check_values()

    def _check(self, model: nn.Module, module: nn.Module, name: str,
               prefix: str, path: str, checkpoint: Mapping[str, Any]) -> None:
        if module is model and hasattr(model, _ENCODER):
            # Heads differ between tasks; the encoder must be complete.
            module, name = getattr(model, _ENCODER), _ENCODER
            prefix = f'{prefix}{_ENCODER}.'
        state_dict = {
            key.removeprefix('module.'): value
            for key, value in checkpoint.get('state_dict', checkpoint).items()
        }
        source = f'{path} (prefix {prefix!r})'
        tensors = select_prefix(state_dict, prefix, module, source)
        _check_grid(checkpoint, module, source)
        report = compare(module, tensors, source=source, allow=self.allow)
        print_log(str(report), logger='current')
        require_complete(report, module, tensors)
        self._warn_preprocessing(model, module, checkpoint, source)
        self._expected.append(
            (f'{source} -> {name or type(module).__name__}', module,
             expected_tensors(module, tensors)))

    def _warn_preprocessing(self, model: nn.Module, module: nn.Module,
                            checkpoint: Mapping[str, Any],
                            source: str) -> None:
        theirs = checkpoint_preprocessing(checkpoint)
        ours = preprocessing_of_module(
            getattr(model, 'data_preprocessor', None))
        grids = checkpoint_grid(checkpoint), encoder_grid(module)
        if None not in grids:
            theirs, ours = {**theirs, 'grid': grids[0]}, {
                **ours, 'grid': grids[1]}
        lines = preprocessing_differences(theirs, ours)
        if lines:
            print_log(
                f'{source} was trained with other preprocessing:\n  ' +
                '\n  '.join(lines),
                logger='current',
                level=logging.WARNING)

    def _check_values(self) -> None:
        expected, self._expected = self._expected, []
        for place, module, tensors in expected:
            wrong = differing_values(module, tensors)
            if wrong:
                raise CheckpointError(
                    f'{place}: {len(wrong)} of {len(tensors)} tensors do not '
                    f'have the values of the file at the start, first '
                    f'{wrong[0]}: {type(module).__name__} did not load them or '
                    'initialised them again; load the file with load_from '
                    'instead of init_cfg')


def _unwrap(model: nn.Module) -> nn.Module:
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def _pretrained(module: nn.Module) -> Mapping[str, Any] | None:
    settings = getattr(module, 'init_cfg', None)
    candidates = settings if isinstance(settings, (list, tuple)) else [settings]
    for candidate in candidates:
        if isinstance(candidate, Mapping) and candidate.get(
                'type') == 'Pretrained' and candidate.get('checkpoint'):
            return candidate
    return None


def _check_grid(checkpoint: Mapping[str, Any], module: nn.Module,
                source: str) -> None:
    """Refuse position tables that the stack's own loading would misread.

    It compares token counts and takes their square root.
    """
    theirs, ours = checkpoint_grid(checkpoint), encoder_grid(module)
    if theirs is None or ours is None or theirs == ours:
        return
    same_count = theirs[0] * theirs[1] == ours[0] * ours[1]
    if theirs[0] != theirs[1]:
        raise CheckpointError(
            f'{source} has a position table of {theirs[0]}x{theirs[1]} '
            f'patches and the model one of {ours[0]}x{ours[1]}: the table is '
            'not square and would be misread, so export the checkpoint with '
            'tools/export_backbone.py')
    if same_count:
        raise CheckpointError(
            f'{source} has a position table of {theirs[0]}x{theirs[1]} '
            f'patches and the model one of {ours[0]}x{ours[1]}, of equal '
            'count, so it would be loaded without a resize: set the '
            "backbone's img_size to the checkpoint's; other image sizes are "
            'resized in the forward pass')
