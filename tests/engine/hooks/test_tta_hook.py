# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from types import SimpleNamespace

import torch
from mmengine.model import BaseModel, BaseTTAModel
from mmengine.registry import MODEL_WRAPPERS
from torch import nn

from mmeffmae.engine.hooks import TTAHook
from mmeffmae.engine.hooks.load_report import _unwrap
from mmeffmae.registry import MODELS


@MODELS.register_module()
class _Mean(BaseTTAModel):

    def merge_preds(self, data_samples_list):
        return [sum(samples) / len(samples) for samples in data_samples_list]


@MODEL_WRAPPERS.register_module()
class _Wrapper(nn.Module):

    def __init__(self, module):
        super().__init__()
        self.module = module


class _Double(BaseModel):
    out_channels = 3

    def forward(self, inputs, mode):
        return [2 * x for x in inputs]

    def test_step(self, data):
        return self(data['inputs'], 'predict')


def test_the_model_itself_is_wrapped_once():
    model = _Double()
    for wrapped in (model, _Wrapper(model)):
        runner = SimpleNamespace(model=wrapped)
        hook = TTAHook(dict(type='mmeffmae._Mean'))
        hook.before_test(runner)
        assert isinstance(runner.model, _Mean)
        assert runner.model.module is model  # its attributes are in reach
        assert _unwrap(runner.model) is model
    views = dict(inputs=[[torch.tensor(1.)], [torch.tensor(3.)]])
    assert runner.model.test_step(views) == [torch.tensor(4.)]
    assert hook.tta_cfg == dict(type='mmeffmae._Mean')
