# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Fine-tuning of a tiny encoder by mmengine's runner."""
import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from mmpretrain.datasets import BaseDataset
from mmpretrain.models import SelfSupDataPreprocessor

from mmeffmae.evaluation import PROBES, ProbeTask
from mmeffmae.evaluation.finetune import (
    FinetuneSchedule,
    build_classifier,
    build_runner,
)
from mmeffmae.models import MaskedViT

VIT = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
PIPELINE = [
    dict(type='mmeffmae.SeedSample'),
    dict(type='mmpretrain.RandomFlip', prob=0.5),
    dict(type='mmpretrain.PackInputs'),
]
SCHEDULE = FinetuneSchedule(views=320, batch_size=16, lr=4e-3, layer_decay=0.5)


class Stripes(BaseDataset):
    """Noise with horizontal or with vertical stripes."""

    def __init__(self, count, pipeline=PIPELINE):
        self.count = count
        super().__init__(ann_file='', metainfo=dict(classes=('h', 'v')),
                         pipeline=pipeline)

    def load_data_list(self):
        generator = np.random.default_rng(self.count)
        stripes = np.tile([[[90], [0]]], (16, 8, 3)).astype('uint8')
        noise = generator.integers(0, 90, (self.count, 16, 16, 3), 'uint8')
        return [
            dict(img=noise[i] + (stripes, stripes.transpose(1, 0, 2))[i % 2],
                 gt_label=i % 2) for i in range(self.count)
        ]


@pytest.fixture(scope='module')
def task():
    torch.manual_seed(0)
    backbone = MaskedViT(VIT, img_size=16, patch_size=4)
    backbone.init_weights()
    backbone.freeze_pos_embed()
    preprocessor = SelfSupDataPreprocessor([90.0] * 3, [45.0] * 3)
    return ProbeTask(
        backbone.eval(), preprocessor, Stripes(40, PIPELINE[2:]),
        Stripes(24, PIPELINE[2:]), augmented=Stripes(40), schedule=SCHEDULE)


def test_finetuning_learns_and_leaves_no_trace(task):
    before = copy.deepcopy(task.backbone.state_dict())
    state = torch.get_rng_state(), np.random.get_state()[1].copy()
    accuracy = PROBES['finetune'](task)
    assert accuracy > 85
    assert all(torch.equal(value, before[name])
               for name, value in task.backbone.state_dict().items())
    assert not task.backbone.training
    assert not task.backbone.pos_embed.requires_grad
    assert torch.equal(state[0], torch.get_rng_state())
    assert np.array_equal(state[1], np.random.get_state()[1])
    assert task.settings['finetune']['images'] == 40
    assert task.settings['finetune']['views'] == 320
    few = FinetuneSchedule(views=32, batch_size=16)
    task.schedule = few
    PROBES['finetune_10pct'](task)
    assert task.settings['finetune_10pct']['per_class'] == [2, 2]
    task.schedule = SCHEDULE


def test_layers_have_their_learning_rates(task, tmp_path):
    classifier = build_classifier(
        task.backbone, task.preprocessor, 2, 32, label_smoothing=0.1)
    runner = build_runner(
        classifier, task.augmented, task.query, SCHEDULE, tmp_path)
    wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    groups = groups_by_name(classifier, wrapper)
    assert len(groups) == len(list(classifier.parameters()))
    rates = {
        'backbone.patch_embed.projection.weight': 1 / 8,
        'backbone.pos_embed': 1 / 8,
        'backbone.layers.0.attn.qkv.weight': 1 / 4,
        'backbone.layers.1.ffn.layers.1.bias': 1 / 2,
        'backbone.ln1.weight': 1,
        'head.fc.weight': 1,
    }
    for name, factor in rates.items():
        assert groups[name]['lr'] == pytest.approx(4e-3 * factor), name
    assert groups['head.fc.weight']['weight_decay'] == 0.05
    for name in ('backbone.pos_embed', 'backbone.cls_token', 'head.fc.bias',
                 'backbone.layers.0.ln1.weight'):
        assert groups[name]['weight_decay'] == 0, name


def groups_by_name(model, wrapper):
    groups = {id(p): g for g in wrapper.param_groups for p in g['params']}
    return {name: groups[id(p)] for name, p in model.named_parameters()}


@pytest.mark.parametrize('encoder', [
    dict(type='mmeffmae.MaskedViT', patch_size=8, stem=dict(type='mmeffmae.ConvStem'),
         ffn=dict(type='mmeffmae.ConvFFN'), share_attn=1, arch=VIT),
    dict(type='mmeffmae.UMSwin', patch_size=4, arch=dict(
        embed_dims=4, depths=[1] * 4, num_heads=[1] * 4, position_dims=4)),
    dict(type='mmeffmae.UMPVT', patch_size=4, arch=dict(
        embed_dims=[4, 8, 16, 32], depths=[1] * 4, num_heads=[1] * 4,
        mlp_ratios=[2] * 4, sr_ratios=[8, 4, 2, 1]))],
    ids=['clmae', 'um_swin', 'um_pvt'])
def test_every_encoder_is_finetuned_with_layer_decay(encoder, task, tmp_path):
    torch.manual_seed(0)
    backbone = MODELS.build(dict(encoder, img_size=16))
    backbone.init_weights()
    backbone.freeze_pos_embed()
    classifier = build_classifier(backbone, task.preprocessor, 2, 32, 0.1)
    start = copy.deepcopy(classifier.state_dict())
    schedule = replace(SCHEDULE, views=32)
    runner = build_runner(
        classifier, task.augmented, task.query, schedule, tmp_path)
    runner.train()
    assert all(not torch.equal(start[name], parameter)
               for name, parameter in classifier.named_parameters())
    groups = groups_by_name(classifier, runner.optim_wrapper)
    layers = backbone.num_layers
    first = next(n for n in groups if n.startswith('backbone.patch_embed.'))
    assert groups[first]['initial_lr'] == pytest.approx(4e-3 / 2**(layers + 1))
    assert groups['head.fc.weight']['initial_lr'] == pytest.approx(4e-3)


def test_the_finetuning_schedule_of_configs_has_the_rates_of_its_rule():
    path = 'configs/_base_/schedules/finetune_adamw.py'
    cfg = Config.fromfile(Path(__file__).parents[2] / path)
    model = torch.nn.Module()
    model.backbone = MaskedViT(VIT, img_size=16, patch_size=4)
    groups = groups_by_name(model, build_optim_wrapper(model, cfg.optim_wrapper))
    for name, rate, decay in (
            ('cls_token', .75**3, 0), ('pos_embed', .75**3, 0),
            ('layers.0.attn.qkv.weight', .75**2, .05),
            ('layers.1.attn.qkv.bias', .75, 0), ('ln1.weight', 1, 0)):
        group = groups[f'backbone.{name}']
        assert group['lr'] == pytest.approx(1e-3 * rate), name
        assert group['weight_decay'] == decay, name


def test_the_control_has_no_layer_decay(task):
    control = task.untrained()
    assert control.schedule.layer_decay == 1
    assert control.schedule.views == SCHEDULE.views
    assert control.settings is not task.settings


def test_missing_augmentation_is_named(task):
    plain = ProbeTask(task.backbone, task.preprocessor, task.bank, task.query)
    with pytest.raises(ValueError, match='probe_task'):
        PROBES['finetune'](plain)
