# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""The two hooks that watch pre-training, in real runs of a small model."""
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import Runner
from mmpretrain.models import SelfSupDataPreprocessor
from mmpretrain.structures import DataSample
from PIL import Image
from torch import nn

from mmeffmae.engine.hooks import KNNMonitorHook, ReconstructionHook
from mmeffmae.masking import RandomMasking


class Photographs(torch.utils.data.Dataset):
    """Noise of two brightnesses; ``augment`` draws from every stream."""

    def __init__(self, count=16, augment=False):
        generator = torch.Generator().manual_seed(0)
        self.labels = torch.arange(count) % 2
        noise = torch.randint(0, 128, (count, 3, 8, 8), generator=generator)
        self.images = (noise + 127 * self.labels.view(-1, 1, 1, 1)).byte()
        self.augment = augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index]
        if self.augment:
            shift = random.randrange(8) + np.random.randint(8)
            image = image.roll(shift + int(torch.randint(8, ())), dims=1)
        sample = DataSample().set_gt_label(self.labels[index])
        return dict(inputs=image, data_samples=sample)


class TinyAutoencoder(BaseModel):
    """A linear masked autoencoder with 2 × 2 patches and drop-out."""

    def __init__(self):
        super().__init__(SelfSupDataPreprocessor([127.0] * 3, [64.0] * 3,
                                                 to_rgb=True))
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 8, 4, 4), nn.BatchNorm2d(8), nn.Dropout(0.1))
        self.decoder = nn.ConvTranspose2d(8, 3, 4, 4)

    def draw_plan(self, images):
        return RandomMasking(0.5)(torch.rand(len(images), 2, 2))

    def reconstruct(self, images, plan=None):
        return self.decoder(self.backbone(images)).unsqueeze(1), plan

    def forward(self, inputs, data_samples=None, mode='tensor'):
        plan = self.draw_plan(inputs)
        seen = plan.visible.float().reshape(len(inputs), 1, 2, 2)
        seen = nn.functional.interpolate(seen, scale_factor=4)
        predicted, _ = self.reconstruct(inputs * seen, plan)
        return dict(loss=(predicted[:, 0] - inputs).square().mean())


@pytest.fixture(autouse=True)
def registered():
    for registry, module in ((DATASETS, Photographs), (MODELS,
                                                       TinyAutoencoder)):
        registry.register_module(module=module, force=True)
    yield
    DATASETS.module_dict.pop('Photographs')
    MODELS.module_dict.pop('TinyAutoencoder')


def train(work_dir, *hooks, epochs=3):
    runner = Runner(
        model=dict(type='TinyAutoencoder'),
        work_dir=str(work_dir),
        # Names a global visualizer: unique, also within a second.
        experiment_name='-'.join(work_dir.parts[-2:]),
        train_dataloader=dict(
            batch_size=4,
            num_workers=0,
            dataset=dict(type='Photographs', augment=True),
            sampler=dict(type='DefaultSampler', shuffle=True),
            collate_fn=dict(type='default_collate')),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(
            checkpoint=None, logger=dict(type='LoggerHook', interval=1)),
        custom_hooks=list(hooks),
        visualizer=dict(
            type='Visualizer', vis_backends=[dict(type='LocalVisBackend')]),
        randomness=dict(seed=3),
        log_level='WARNING')
    runner.train()
    return runner


def scalars(runner, name):
    lines = Path(runner.log_dir, 'vis_data', 'scalars.json').read_text()
    records = [json.loads(line) for line in lines.splitlines()]
    return {
        record['step']: record[name]
        for record in records if name in record
    }


def knn_hook(**options):
    dataset = dict(type='Photographs')
    return KNNMonitorHook(dataset, dict(dataset, count=6), k=3, **options)


def test_hooks_do_not_change_training(tmp_path):
    """Weights, batch statistics and every loss are equal to the bit."""
    plain = train(tmp_path / 'plain')
    watched = train(tmp_path / 'watched', knn_hook(), ReconstructionHook(),
                    ReconstructionHook(dataset=dict(type='Photographs')))
    weights = plain.model.state_dict()
    for name, value in watched.model.state_dict().items():
        assert torch.equal(value, weights[name]), name
    assert scalars(watched, 'loss') == scalars(plain, 'loss')
    assert len(scalars(plain, 'loss')) == 12


def test_knn_is_logged_before_at_intervals_and_at_the_end(tmp_path):
    runner = train(tmp_path / 'run', knn_hook(interval=2))
    values = scalars(runner, 'monitor/knn_top1')
    assert sorted(values) == [0, 8, 12]
    assert values[12] == 100
    history = runner.message_hub.get_scalar('monitor/knn_top1')
    assert history.current() == 100
    silent = train(
        tmp_path / 'silent', knn_hook(interval=9, before_train=False))
    assert sorted(scalars(silent, 'monitor/knn_top1')) == [12]


@pytest.mark.parametrize('main', [True, False])
def test_every_rank_waits_and_the_first_one_computes(
        tmp_path, monkeypatch, main):
    waits = []
    module = 'mmeffmae.engine.hooks.knn_monitor'
    monkeypatch.setattr(f'{module}.is_main_process', lambda: main)
    monkeypatch.setattr(f'{module}.barrier', lambda: waits.append(1))
    runner = train(tmp_path / 'run', knn_hook(), epochs=1)
    assert len(waits) == 2
    assert len(scalars(runner, 'monitor/knn_top1')) == (2 if main else 0)


def test_pictures_reach_the_disk_and_the_visualizer(tmp_path):
    dataset = dict(type='Photographs', count=15)
    runner = train(tmp_path / 'run',
                   ReconstructionHook(2, num_images=4, dataset=dataset))
    files = sorted((tmp_path / 'run' / 'vis').iterdir())
    assert [file.name for file in files] == [
        'reconstruction_iter_00000008.png', 'reconstruction_iter_00000012.png'
    ]
    backend = Path(runner.log_dir, 'vis_data', 'vis_image')
    first, last = (np.asarray(Image.open(file)) for file in files)
    assert np.array_equal(
        last, np.asarray(Image.open(backend / 'reconstruction_12.png')))
    assert last.shape == (4 * 10 + 2, 3 * 10 + 2, 3)
    # Even steps through the data: rows 0, 3, 7, 11, in RGB although loaded
    # as BGR; the same images under the same masks each time.
    rows = [last[10 * row + 2:10 * row + 10, 2:10] for row in range(4)]
    expected = Photographs(15).images[[0, 3, 7, 11]].flip(1)
    assert np.array_equal(np.stack(rows), expected.permute(0, 2, 3, 1).numpy())
    assert np.array_equal(first[:, :20], last[:, :20])
    assert not np.array_equal(first[:, 20:], last[:, 20:])


def test_model_without_pictures_is_refused(tmp_path, monkeypatch):
    monkeypatch.delattr(TinyAutoencoder, 'reconstruct')
    with pytest.raises(TypeError, match='TinyAutoencoder has no reconstruct'):
        train(tmp_path / 'run', ReconstructionHook())


@pytest.mark.parametrize('make', [
    lambda: knn_hook(interval=0),
    lambda: ReconstructionHook(interval=0),
    lambda: ReconstructionHook(num_images=0),
])
def test_zero_is_refused(make):
    with pytest.raises(ValueError, match='=0.*use 1 or more'):
        make()
