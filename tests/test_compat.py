# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from mmeffmae.compat import (
    has_bfloat16,
    is_training_run,
    run_load_hooks,
    swaps_channels,
)
from mmeffmae.engine.optimizers import BFloat16OptimWrapper


def test_load_hooks_of_all_parts_run_on_a_copy():
    module = nn.Sequential(nn.Linear(1, 1))

    def double(state_dict, prefix, *args):
        state_dict[f'{prefix}weight'] = 2 * state_dict[f'{prefix}weight']

    module[0]._register_load_state_dict_pre_hook(double)
    given = {'0.weight': torch.ones(1, 1)}
    assert run_load_hooks(module, given)['0.weight'] == 2
    assert given['0.weight'] == 1
    module.load_state_dict(given, strict=False)
    assert module[0].weight == 2


class _Nothing(BaseModel):

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x, mode='tensor'):
        return dict(loss=self.weight.sum()) if mode == 'loss' else ['']


class _Seen(Hook):

    def __init__(self):
        self.training = []

    def before_run(self, runner):
        self.training.append(is_training_run(runner))


def test_training_and_testing_are_told_apart(tmp_path):
    seen = _Seen()
    data = DataLoader([dict(x=torch.zeros(1))])
    evaluator = dict(type='Evaluator', metrics=[])
    runner = Runner(
        _Nothing(),
        str(tmp_path),
        train_dataloader=data,
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.)),
        test_dataloader=data,
        test_cfg=dict(),
        test_evaluator=evaluator,
        default_hooks=dict(checkpoint=None, logger=None),
        custom_hooks=[seen],
        experiment_name=tmp_path.name)
    runner.test()
    runner.train()
    assert seen.training == [False, True]


@pytest.mark.parametrize('swaps', [True, False])
def test_preprocessors_tell_their_channel_order(swaps):
    mmpretrain = pytest.importorskip('mmpretrain.models')
    mmdet = pytest.importorskip('mmdet.models')
    statistics = dict(mean=[0, 0, 0], std=[1, 1, 1])
    for preprocessor in (
            mmpretrain.SelfSupDataPreprocessor(to_rgb=swaps, **statistics),
            mmpretrain.ClsDataPreprocessor(to_rgb=swaps, **statistics),
            mmdet.DetDataPreprocessor(bgr_to_rgb=swaps, **statistics)):
        assert swaps_channels(preprocessor) is swaps
    assert swaps_channels(nn.Identity()) is None


@pytest.mark.parametrize('capability, computes', [(7, False), (8, True), (9, True)])
def test_bfloat16_is_not_emulated(capability, computes, monkeypatch):
    """A V100 (7.0) and a T4 (7.5) can hold bfloat16 and compute it slowly."""
    gpu = type('', (), dict(major=capability))
    for name, value in dict(
            is_available=lambda: True, current_device=lambda: 0,
            get_device_properties=lambda device: gpu,
            _check_bf16_tensor_supported=lambda device: True).items():
        monkeypatch.setattr(torch.cuda, name, value)
    assert has_bfloat16() == computes
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=.1)
    assert BFloat16OptimWrapper(optimizer=optimizer).enabled == computes
