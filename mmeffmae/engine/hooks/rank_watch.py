# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import atexit
import json
import os
import socket
import sys
import threading
import time
from datetime import timedelta
from types import FrameType
from typing import Any

from mmengine.dist import is_distributed
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.distributed import TCPStore

from mmeffmae.registry import HOOKS

from .nonfinite import NonFiniteGuardHook
from .runtime_info import LazyRuntimeInfoHook

#: Functions in which a rank waits for the others: DDP's reduction runs in the
#: backward pass. On GPUs it is queued there, and the host waits for it where it
#: wants to know the losses.
_WAITING = ('_engine_run_backward', 'all_reduce', 'all_gather', 'all_gather_object',
            'all_gather_into_tensor', 'broadcast', 'broadcast_object_list', 'barrier',
            'reduce', LazyRuntimeInfoHook.hand_over.__name__,
            NonFiniteGuardHook._first_non_finite.__name__)
#: Functions of torch.compile. A new shape is compiled by all ranks at a time, of
#: the backward pass in ``_engine_run_backward``.
_COMPILING = ('compile_inner', '_compile_inner', 'compile_fx', 'compile_fx_inner')
#: The runner's functions for hooks and metrics.
_SLOW = ('call_hook', 'evaluate')


@HOOKS.register_module()
class RankWatchHook(Hook):
    """Name the rank that hangs, and stop all of them.

    A rank that is stuck leaves the others waiting in a collective operation
    until the backend's timeout, which says what it waited for but not for
    whom. Here a thread of every rank tells the others, over the store of the
    process group, how far its rank is and where in the code. When a rank has
    made no progress for ``timeout`` seconds, its thread compares: the rank
    whose process is frozen, or the one that is behind, or the one that does
    not wait for others hangs. Every rank says so and leaves with code 1, and
    ``--resume`` continues from the last checkpoint.

    One process needs no watch and gets none.

    Args:
        timeout: Seconds without progress in an iteration or in loading data.
        slow_timeout: The same before the first iteration is through, in hooks
            (checkpoints, probes), while a model is compiled and in validation,
            where one rank may rightly be busy for long.
        interval: Seconds between two messages of a rank.
    """

    # The last hook before the model's step, and after it.
    priority = 'LOWEST'

    def __init__(self, timeout: float = 120., slow_timeout: float = 1800.,
                 interval: float = 5.) -> None:
        self.timeout = timeout
        self.slow_timeout = slow_timeout
        self.interval = interval
        self._progress, self._since, self._beats = 0, time.monotonic(), 0
        self._started = False
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def before_train(self, runner: Runner) -> None:
        """Start the thread of this rank."""
        if not is_distributed() or 'MASTER_PORT' not in os.environ:
            return
        self._rank, self._world_size = runner.rank, runner.world_size
        self._logger, self._main = runner.logger, threading.get_ident()
        # A connection of its own: the group's is blocked while it waits.
        self._store = TCPStore(
            os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT']),
            is_master=False, timeout=timedelta(seconds=max(30., self.timeout)))
        self._prefix = f'mmeffmae_watch/{runner.timestamp}'
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        # An interpreter that ends under a thread in the store's code aborts.
        atexit.register(self._stop)

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Count progress: data have come."""
        self._advance()

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Count progress: the iteration and its hooks are through."""
        self._advance()
        self._started = True

    def before_val_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Count progress."""
        self._advance()

    def after_train(self, runner: Runner) -> None:
        """Stop the thread."""
        self._stop()

    def _stop(self) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join(timeout=self.interval)

    def _advance(self) -> None:
        self._progress += 1
        self._since = time.monotonic()

    def _watch(self) -> None:
        while not self._done.wait(self.interval):
            try:
                self._publish()
                hung = self._hung() if self._overdue() else {}
            except Exception as error:  # the store is gone, so its host is
                lost = dict(place=f'the store it keeps does not answer ({error})',
                            host=os.environ['MASTER_ADDR'])
                hung = {0: lost} if self._overdue() else {}
            if hung and not self._done.is_set():
                self._leave(hung)

    def _overdue(self) -> bool:
        limit = self.slow_timeout if self._is_slow() else self.timeout
        return time.monotonic() - self._since > limit

    def _is_slow(self) -> bool:
        """Whether this rank may rightly be busy for long."""
        return not self._started or self._compiles() or not self._waits() and any(
            name in _SLOW for name in _functions(self._main))

    def _compiles(self) -> bool:
        # A backward pass on a GPU runs, and is compiled, in a thread of its own.
        return any(name in _COMPILING for thread in sys._current_frames()
                   for name in _functions(thread))

    def _waits(self) -> bool:
        return not self._compiles() and any(
            name in _WAITING for name in _functions(self._main))

    def _publish(self) -> None:
        self._beats += 1
        self._store.set(f'{self._prefix}/{self._rank}', json.dumps(dict(
            beats=self._beats, progress=self._progress,
            stalled=time.monotonic() - self._since, overdue=self._overdue(),
            waits=self._waits(), place=_place(self._main),
            host=socket.gethostname(), pid=os.getpid())))

    def _read(self) -> dict[int, dict[str, Any]]:
        """What every rank said last; {} for a rank that said nothing yet."""
        states = {}
        for rank in range(self._world_size):
            key = f'{self._prefix}/{rank}'
            known = self._store.check([key])
            states[rank] = json.loads(self._store.get(key)) if known else {}
        return states

    def _hung(self) -> dict[int, dict[str, Any]]:
        """The ranks that hang, as far as can be told; {} to wait on."""
        first = self._read()
        for _ in range(3):
            self._done.wait(self.interval)
            self._publish()
        states = self._read()
        frozen = {rank: dict(state, place='its process does not run any more')
                  for rank, state in states.items()
                  if state.get('beats') == first[rank].get('beats')}
        if frozen:
            return frozen
        least = min(state['progress'] for state in states.values())
        behind = {rank: state for rank, state in states.items()
                  if state['progress'] == least}
        if len(behind) == self._world_size:
            behind = {rank: state for rank, state in behind.items()
                      if not state['waits']} or behind
        return behind if all(s['overdue'] for s in behind.values()) else {}

    def _leave(self, hung: dict[int, dict[str, Any]]) -> None:
        for rank, state in hung.items():
            self._logger.error(
                f'rank {rank} (process {state.get("pid", "?")} on '
                f'{state.get("host", "?")}) hangs, no progress for '
                f'{state.get("stalled", 0.):.0f} s (RankWatchHook): '
                f'{state.get("place", "it never started")}. All ranks stop; look at '
                'that machine, then run the same command with --resume')
        for stream in (*self._logger.handlers, sys.stdout, sys.stderr):
            stream.flush()
        # The main thread may be stuck in a call that no exception reaches.
        os._exit(1)


def _functions(thread: int) -> set[str]:
    """Names of the functions that a thread is in."""
    return {frame.f_code.co_name for frame in _frames(thread)}


def _frames(thread: int) -> list[FrameType]:
    """Frames of a thread, innermost first."""
    frame, frames = sys._current_frames().get(thread), []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames


def _place(thread: int) -> str:
    """Where a thread is: its innermost functions."""
    return ' < '.join(
        f'{frame.f_code.co_name} ({os.path.basename(frame.f_code.co_filename)}:'
        f'{frame.f_lineno})' for frame in _frames(thread)[:6])
