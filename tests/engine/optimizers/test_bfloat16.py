# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import pytest
import torch
from torch import nn

from mmeffmae.engine.optimizers import bfloat16
from mmeffmae.folder import machine


@pytest.mark.parametrize('native', [True, False])
def test_emulated_bfloat16_is_left_alone(native, monkeypatch, tmp_path):
    """GPUs before Ampere have it by emulation, slower than float32."""

    def supported(including_emulation=True):
        return native or including_emulation

    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', supported)
    monkeypatch.setattr(bfloat16, 'is_cuda_available', lambda: True)
    wrapper = bfloat16.BFloat16OptimWrapper(
        optimizer=torch.optim.SGD(nn.Linear(1, 1).parameters(), 1.))
    assert wrapper.enabled == native

    monkeypatch.setattr(machine, 'get_device', lambda: 'cuda')
    monkeypatch.setattr(torch.cuda, 'mem_get_info', lambda: (2**30, 2**31))
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda: 'a GPU')
    assert machine.this_machine(tmp_path).bf16 == native
