# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Charges what a counter shows to the stage of a training step at work.

The counter can be a clock, the floating-point operations done so far, or the
bytes kept so far: one mechanism for time, work and memory. A stage is a method
of an object, such as the decoder's ``forward``. Within the backward pass the
stage changes when the gradient of a stage's output arrives, since torch then
goes on to the functions of that stage.
"""
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

#: What belongs to no stage: the glue between them.
OTHER = 'other'


class Place(NamedTuple):
    """A method that is a stage, or a part of one.

    Attributes:
        stage: Name of the stage.
        owner: The object.
        method: Name of its method.
    """

    stage: str
    owner: Any
    method: str


class Label(NamedTuple):
    """A stage in one direction of the pass."""

    stage: str
    backward: bool = False


class StageMeter:
    """Reads a counter whenever another stage begins.

    Args:
        read: The counter.
        between: What it counted from one reading to a later one. Called after
            everything was read, so that readings may be events of a GPU.
    """

    def __init__(
        self,
        read: Callable[[], Any],
        between: Callable[[Any, Any], float] = lambda start, end: end - start,
    ) -> None:
        self._read = read
        self._between = between
        self._marks: list[tuple[Label, Any]] = []
        self._stack = [Label(OTHER)]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count in this block, on top of what was counted before."""
        self._mark()
        yield
        assert len(self._stack) == 1
        self._marks.append((Label('', False), self._read()))

    @contextmanager
    def stage(self, label: Label) -> Iterator[None]:
        """Charge a block to a stage, except for the stages within."""
        self._stack.append(label)
        self._mark()
        try:
            yield
        finally:
            self._stack.pop()
            self._mark()

    @property
    def at_work(self) -> Label:
        """The stage that is charged now."""
        return self._stack[-1]

    def turn_back(self, label: Label) -> None:
        """Let a stage replace the one at work, as the backward pass does."""
        if self._stack[-1].backward:
            self._stack[-1] = label
            self._mark()

    def charges(self) -> dict[Label, float]:
        """What was counted, by stage and direction."""
        found: dict[Label, float] = {}
        for (label, start), (_, end) in zip(self._marks, self._marks[1:]):
            if label.stage:
                found[label] = found.get(label, 0.) + self._between(start, end)
        return found

    def _mark(self) -> None:
        self._marks.append((self._stack[-1], self._read()))


def timer(device: torch.device) -> StageMeter:
    """A meter of seconds: CPU time, or the GPU's own events."""
    if device.type != 'cuda':
        return StageMeter(time.process_time)

    def record() -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        end.synchronize()
        return start.elapsed_time(end) / 1e3

    return StageMeter(record, seconds)


@contextmanager
def metered(meter: StageMeter, places: Sequence[Place]) -> Iterator[None]:
    """Let every call of the places be charged to their stages.

    Args:
        meter: Counts within its ``running()``.
        places: Methods; the one of a stage ``'backward'`` is the backward
            pass itself, which begins with the loss.
    """
    with ExitStack() as undo:
        for place in places:
            own = vars(place.owner).get(place.method)
            inner = getattr(place.owner, place.method)
            setattr(place.owner, place.method, _charged(meter, place.stage, inner))
            undo.callback(_restore, place, own)
        yield


def _restore(place: Place, own: Any) -> None:
    if own is None:
        delattr(place.owner, place.method)
    else:
        setattr(place.owner, place.method, own)


def _charged(
    meter: StageMeter, stage: str, inner: Callable[..., Any]
) -> Callable[..., Any]:
    label = Label('loss', True) if stage == 'backward' else Label(stage)

    def call(*args: Any, **kwargs: Any) -> Any:
        with meter.stage(label):
            value = inner(*args, **kwargs)
        for tensor in _tensors(value):
            tensor.register_hook(
                lambda grad: meter.turn_back(Label(stage, backward=True)))
        return value

    return call


def _tensors(value: Any) -> list[Tensor]:
    """Tensors in a stage's output through which gradients will flow."""
    if isinstance(value, dict):
        value = tuple(value.values())
    items = value if isinstance(value, (tuple, list)) else (value, )
    return [item for item in items
            if isinstance(item, Tensor) and item.requires_grad]
