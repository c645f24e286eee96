# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.runner import Runner, find_latest_checkpoint

from mmeffmae.registry import HOOKS


@HOOKS.register_module()
class NonFiniteGuardHook(Hook):
    """Stop the run when a loss is infinite or not a number.

    The terms stay on their device and are looked at together every
    ``interval`` iterations and before a checkpoint is written, so that no
    checkpoint holds weights from after the event. All ranks stop together.

    Args:
        interval: Number of iterations between two checks.

    Raises:
        FloatingPointError: A term whose name contains ``loss`` is not
            finite, or a weight that is about to be saved is not.
    """

    # Before LoggerHook (60) and the hooks that save.
    priority = 58

    def __init__(self, interval: int = 50) -> None:
        self.interval = interval
        self._pending: list[tuple[int, dict[str, torch.Tensor]]] = []

    def after_train_iter(self,
                         runner: Runner,
                         batch_idx: int,
                         data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        """Keep the iteration's terms; check at the interval."""
        terms = {
            name: torch.as_tensor(value).detach()
            for name, value in (outputs or {}).items() if 'loss' in name
        }
        self._pending.append((runner.iter + 1, terms))
        if self.every_n_train_iters(runner, self.interval):
            self.check(runner)

    def after_train(self, runner: Runner) -> None:
        """Check the last iterations."""
        self.check(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse to save after a non-finite loss, or non-finite weights."""
        self._raise_if_seen(runner, self._first_non_finite())
        bad = [
            name for name, value in checkpoint['state_dict'].items()
            if value.is_floating_point() and not value.isfinite().all()
        ]
        if bad:
            iteration = checkpoint['meta']['iter']
            names = ', '.join(bad[:5]) + (' and more' if bad[5:] else '')
            raise FloatingPointError(
                f'weights are not finite after iteration {iteration} '
                f'(NonFiniteGuardHook): {names}. {_mend(runner)}')

    def check(self, runner: Runner) -> None:
        """Look at the terms since the last check; a collective operation."""
        found = self._first_non_finite()
        self._pending.clear()
        seen = torch.tensor(float(found is not None))
        all_reduce(seen, op='max')
        self._raise_if_seen(runner, found)
        if seen:
            raise FloatingPointError(
                'the loss of another rank is not finite '
                f'(NonFiniteGuardHook). {_mend(runner)}')

    def _first_non_finite(self) -> tuple[int, dict[str, float]] | None:
        terms = [v.float().sum() for _, t in self._pending for v in t.values()]
        if not terms:
            return None
        device = terms[0].device
        if torch.stack([t.to(device) for t in terms]).isfinite().all():
            return None
        for iteration, values in self._pending:
            numbers = {name: v.float().sum().item()
                       for name, v in values.items()}
            if not all(torch.isfinite(v).all() for v in values.values()):
                return iteration, numbers
        return None

    def _raise_if_seen(self, runner: Runner,
                       found: tuple[int, dict[str, float]] | None) -> None:
        if found is None:
            return
        iteration, values = found
        terms = ', '.join(f'{name}={value}' for name, value in values.items())
        raise FloatingPointError(
            f'the loss is not finite at iteration {iteration}, rank '
            f'{runner.rank} (NonFiniteGuardHook): {terms}. {_mend(runner)}')


def _mend(runner: Runner) -> str:
    last = find_latest_checkpoint(runner.work_dir) or 'none'
    return (f'Last good checkpoint: {last}. Resume from it with a lower '
            'learning rate, a longer warm-up or gradient clipping '
            '(optim_wrapper.clip_grad), or without --amp')
