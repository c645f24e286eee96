# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""What a rank that stands still is taken for; whole runs are in tests/faults."""
import threading

import pytest
import torch

from mmeffmae.engine.hooks import (
    LazyRuntimeInfoHook,
    NonFiniteGuardHook,
    RankWatchHook,
)


class Value:
    """A loss that the GPU has not computed yet."""

    def __init__(self):
        self.asked, self.computed = threading.Event(), threading.Event()

    def float(self):
        self.asked.set()
        assert self.computed.wait(60)
        raise InterruptedError('the test is over')


def lazy_log(value):
    hook = LazyRuntimeInfoHook()
    hook._pending.append(dict(loss=value))
    return lambda: hook.hand_over(None)


def guard(value):
    hook = NonFiniteGuardHook()
    hook._pending.append((1, dict(loss=value)))
    return lambda: hook.check(None)


@pytest.mark.parametrize('ask', [lazy_log, guard])
def test_a_host_that_asks_for_a_loss_waits_for_the_other_ranks(ask):
    value, watch = Value(), RankWatchHook()
    wanted = ask(value)

    def call_hook():  # as the runner does
        with pytest.raises(InterruptedError):
            wanted()

    thread = threading.Thread(target=call_hook)
    thread.start()
    assert value.asked.wait(60)
    watch._main, watch._started = thread.ident, True
    waits, slow = watch._waits(), watch._is_slow()
    value.computed.set()
    thread.join()
    assert waits and not slow


def test_a_new_shape_may_compile_for_long():
    watch, seen = RankWatchHook(), []
    watch._main, watch._started = threading.get_ident(), True

    def look():
        seen.append((watch._is_slow(), watch._waits()))

    def backend(graph, inputs):
        look()
        return graph.forward

    torch.compile(torch.nn.Linear(4, 4), backend=backend)(torch.randn(2, 4))

    begun, ended = threading.Event(), threading.Event()

    def compile_fx_inner():  # inductor's, of the backward pass, in autograd's thread
        begun.set()
        assert ended.wait(60)

    def _engine_run_backward():
        look()

    thread = threading.Thread(target=compile_fx_inner)
    thread.start()
    assert begun.wait(60)
    _engine_run_backward()
    ended.set()
    thread.join()
    _engine_run_backward()
    assert seen == [(True, False), (True, False), (False, True)]
