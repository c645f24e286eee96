# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""No iteration waits for the device: nothing asks for a value of a tensor.

On a CPU the operations are refused that would wait on a GPU; with a GPU torch
itself refuses.
"""
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from mmengine.config import Config
from torch.utils._python_dispatch import TorchDispatchMode

from mmeffmae.benchmarks.step_time import started_runner

ROOT = Path(__file__).parents[2]
aten = torch.ops.aten
#: What returns numbers to the host, or shapes that depend on values; and
#: tensors made of the host's numbers (``lift_fresh``), whose copy waits as well.
WAITING = {aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal,
           aten.is_nonzero, aten._unique2, aten.unique_dim, aten.lift_fresh}
#: Methods that a CPU has no operation for.
COPYING = ('cpu', 'numpy', 'tolist', '__array__')
METHODS = ('mae/mae', 'emae/emae', 'um_mae/um_mae', 'clmae/clmae', 'pcae/pcae',
           'dbp_mae/dbp_mae')


class NoWaiting(TorchDispatchMode):

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kind = func.overloadpacket
        indices = args[1] if kind in (aten.index, aten.index_put_) else ()
        if kind in WAITING or any(
                i is not None and i.dtype == torch.bool for i in indices):
            raise AssertionError(f'{func} waits for the device')
        return func(*args, **(kwargs or {}))


@contextmanager
def no_waiting():
    def refuse(name):
        def method(self, *args, **kwargs):
            raise AssertionError(f'Tensor.{name} waits for the device')
        return method

    with ExitStack() as stack:
        for name in COPYING:
            stack.enter_context(
                mock.patch.object(torch.Tensor, name, refuse(name)))
        stack.enter_context(NoWaiting())
        yield


@pytest.fixture(params=METHODS)
def iteration(request, shrink, tmp_path):
    """One whole iteration of a method's runner, after the first ones."""
    path = ROOT / f'configs/{request.param}_quick.py'
    config = shrink(Config.fromfile(path))
    config.train_dataloader.sampler.type = 'mmeffmae.InfiniteKeyedSampler'
    runner = started_runner(config, tmp_path / 'run')
    batch = next(iter(runner.train_loop.dataloader))
    if torch.cuda.is_available():
        batch['inputs'] = batch['inputs'].cuda()
    for _ in range(2):
        runner.train_loop.run_iter(dict(batch))
    return lambda: runner.train_loop.run_iter(dict(batch))


def test_no_operation_waits(iteration):
    with no_waiting():
        iteration()


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_torch_sees_no_wait(iteration):
    torch.cuda.set_sync_debug_mode('error')
    try:
        iteration()
    finally:
        torch.cuda.set_sync_debug_mode('default')


@pytest.mark.parametrize('ask', [
    lambda x: x.sum().item(), lambda x: bool(x.any()), lambda x: x[x > 0],
    lambda x: x[[2, 1, 0]], lambda x: torch.as_tensor(.5, device=x.device),
    lambda x: x.tolist(), lambda x: x.cpu(), np.asarray])
def test_waiting_is_noticed(ask):
    with no_waiting(), pytest.raises(AssertionError, match='waits for the device'):
        ask(torch.randn(3))
