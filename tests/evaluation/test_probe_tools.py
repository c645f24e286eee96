# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""The command lines for probes and pictures on a small real model."""
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmeffmae.config_hash import config_hash
from mmeffmae.evaluation.building import build_model, probe_datasets
from mmeffmae.evaluation.features import collate_images
from mmeffmae.evaluation.reconstruction import explained_variance
from mmeffmae.models.layers import TokenDrop

ROOT = Path(__file__).parents[2]
CONFIG = """
default_scope = 'mmpretrain'
randomness = dict(seed=5)
model = dict(
    type='mmeffmae.MaskedAutoencoder',
    backbone=dict(
        type='mmeffmae.MaskedViT',
        arch=dict(embed_dims=32, num_layers=1, num_heads=2,
                  feedforward_channels=64),
        img_size=(16, 24), patch_size=8),
    neck=dict(type='mmeffmae.MaskedDecoder', decoder_embed_dim=16,
              decoder_depth=1, decoder_num_heads=2),
    head=dict(type='mmeffmae.PixelHead'),
    masking=dict(type='mmeffmae.ParallelMasking', num_parts=2))
data_preprocessor = dict(
    type='mmpretrain.SelfSupDataPreprocessor',
    mean=[120.0, 110.0, 100.0], std=[60.0, 60.0, 60.0], to_rgb=True)
_labelled = dict(
    type='mmpretrain.CustomDataset', data_root='{root}',
    pipeline=[dict(type='mmpretrain.LoadImageFromFile'),
              dict(type='mmpretrain.PackInputs')])
custom_hooks = [
    dict(type='mmeffmae.KNNMonitorHook',
         bank=dict(data_prefix='train', **_labelled),
         query=dict(data_prefix='held_out', **_labelled))]
probe_query = dict(data_prefix='val', **_labelled)
train_dataloader = dict(dataset=dict(pipeline=[
    dict(type='mmeffmae.SeedSample'),
    dict(type='mmpretrain.LoadImageFromFile'),
    dict(type='mmpretrain.RandomFlip', prob=0.5),
    dict(type='mmpretrain.PackInputs')]))
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Dark and bright pictures, a config, and a checkpoint of its model."""
    root = tmp_path_factory.mktemp('probe')
    generator = np.random.default_rng(0)
    for split, count in (('train', 24), ('held_out', 8), ('val', 4)):
        for name, low in (('dark', 0), ('light', 120)):
            part = root / split / name
            part.mkdir(parents=True)
            for i in range(count):
                image = generator.integers(low, low + 130, (16, 24, 3))
                Image.fromarray(image.astype('uint8')).save(part / f'{i}.png')
    config = root / 'tiny.py'
    config.write_text(CONFIG.replace('{root}', str(root)))
    model = build_model(Config.fromfile(config), seed=9)
    torch.save(
        dict(state_dict=model.state_dict(), meta=dict(epoch=3, iter=12)),
        root / 'epoch_3.pth')
    return root


@pytest.fixture
def run(monkeypatch):
    """Run a tool as a script, in this process to spare the imports."""

    def run_tool(tool, *arguments):
        monkeypatch.setattr(sys, 'argv', [tool, *map(str, arguments)])
        runpy.run_path(str(ROOT / tool), run_name='__main__')

    return run_tool


def test_probe_reports_untrained_and_trained(folder, tmp_path, run):
    shard = tmp_path / 'new' / 'shard.json'
    run('tools/benchmarks/probe.py', folder / 'tiny.py',
        folder / 'epoch_3.pth', '--untrained', '--split', 'final', '--device',
        'cpu', '--json', shard)
    result = json.loads(shard.read_text())
    # Brightness is what a random encoder shows best.
    assert result['values'] == {
        encoder: {'knn': 100.0, 'linear': 100.0}
        for encoder in ('untrained', 'trained')
    }
    assert (result['bank_images'], result['query_images']) == (48, 8)
    assert result['seed'] == 5 and result['split'] == 'final'
    assert result['checkpoint']['epoch'] == 3
    assert result['config_hash'] == config_hash(
        Config.fromfile(folder / 'tiny.py'))
    assert result['machine']['cores'] >= 1
    assert 'torch' in result['packages'] and result['device'] == 'cpu'
    assert 'probe.py' in result['command']


def test_reconstruction_is_of_the_whole_model(folder, tmp_path, run):
    shard = tmp_path / 'shard.json'
    run('tools/benchmarks/probe.py', folder / 'tiny.py', folder / 'epoch_3.pth',
        '--probes', 'explained', 'knn', '--device', 'cpu', '--json', shard)
    config = Config.fromfile(folder / 'tiny.py')
    model = build_model(config, seed=9)  # as the checkpoint
    _, photographs = probe_datasets(config)
    batch = model.data_preprocessor(collate_images(
        [photographs[i] for i in range(len(photographs))]))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        losses = [float(model(**batch, mode='loss')['loss_recon']) for _ in range(2)]
    assert json.loads(shard.read_text())['values']['trained']['explained'] \
        == pytest.approx(100 - 50 * sum(losses), abs=1e-3)
    model.head.norm_pix = False
    with pytest.raises(ValueError, match='does not reconstruct normalised pixels'):
        explained_variance(model, photographs)


def test_probe_fine_tunes_and_says_how(folder, tmp_path, run):
    shard = tmp_path / 'shard.json'
    run('tools/benchmarks/probe.py', folder / 'tiny.py',
        folder / 'epoch_3.pth', '--untrained', '--device', 'cpu', '--probes',
        'finetune_10pct', '--finetune', 'views=64', 'batch_size=8', 'lr=0.02',
        '--json', shard)
    result = json.loads(shard.read_text())
    assert result['values']['trained']['finetune_10pct'] > 80
    trained, scratch = (result['settings'][encoder]['finetune_10pct']
                        for encoder in ('trained', 'untrained'))
    assert trained['images'] == scratch['images'] == 4
    assert trained['indices_hash'] == scratch['indices_hash']
    assert (trained['views'], trained['lr']) == (64, 0.02)
    assert (trained['layer_decay'], scratch['layer_decay']) == (0.75, 1)
    with pytest.raises(SystemExit, match="error: --finetune: .*'speed'"):
        run('tools/benchmarks/probe.py', folder / 'tiny.py', 'none',
            '--probes', 'finetune', '--finetune', 'speed=2')


def test_consistency_is_compared_with_another_model(folder, tmp_path, run):
    """With itself, to the last digit."""
    shard = tmp_path / 'shard.json'
    own = folder / 'tiny.py', folder / 'epoch_3.pth'
    run('tools/benchmarks/consistency.py', *own, '--versus', *own, '--parts',
        2, '--partitions', 3, '--photographs', 5, '--device', 'cpu', '--json',
        shard)
    result = json.loads(shard.read_text())
    numbers = result['model']['numbers']
    assert numbers['mad']['low'] <= numbers['mad']['value']
    assert numbers['mad']['value'] > 0 < numbers['variance_over_mse']['value']
    assert len(result['model']['by_photograph']['mse']) == 5
    assert result['paired']['mad']['ratio'] == dict(value=1, low=1, high=1)
    assert result['photographs'] == 5 and result['partitions'] == 3
    with pytest.raises(SystemExit, match='error: 5 parts do not divide'):
        run('tools/benchmarks/consistency.py', *own, '--parts', 5, '--device',
            'cpu')


def test_picture_of_image_files(folder, tmp_path, run):
    """Images of another size and shape are cut to the model's."""
    wide = tmp_path / 'wide.png'
    Image.new('RGB', (100, 40), (200, 100, 0)).save(wide)
    out = tmp_path / 'out.png'
    run('tools/analysis/visualize_reconstruction.py', folder / 'tiny.py',
        folder / 'epoch_3.pth', wide, folder / 'train' / 'dark' / '0.png',
        '--out', out, '--device', 'cpu')
    picture = np.asarray(Image.open(out))
    assert picture.shape == (2 * 18 + 2, 5 * 26 + 2, 3)
    assert (picture[2:18, 2:26] == (200, 100, 0)).all()
    original = np.asarray(Image.open(folder / 'train' / 'dark' / '0.png'))
    assert np.array_equal(picture[20:36, 2:26], original)


def test_splits_and_what_is_missing(folder):
    config = Config.fromfile(folder / 'tiny.py')
    assert [len(part) for part in probe_datasets(config)] == [48, 16]
    assert [len(part) for part in probe_datasets(config, 'final')] == [48, 8]
    config.pop('probe_query')
    with pytest.raises(ValueError, match='tiny.py.*define probe_query'):
        probe_datasets(config, 'final')
    config.pop('custom_hooks')
    with pytest.raises(ValueError, match='define a KNNMonitorHook'):
        probe_datasets(config)


def test_config_hash_names_the_setting_not_the_run(folder):
    config = Config.fromfile(folder / 'tiny.py')
    name = config_hash(config)
    config.work_dir = 'elsewhere'
    config.randomness.seed = 6
    bank = config.custom_hooks[0].bank
    bank.data_root = '/mnt/' + Path(bank.data_root).name + '/'
    assert config_hash(config) == name
    bank.data_root = '/mnt/others'
    assert config_hash(config) != name
    bank.data_root = '/mnt/' + folder.name
    config.model.masking.num_parts = 3
    assert config_hash(config) != name


def test_weights_follow_the_seed_alone(folder):
    config = Config.fromfile(folder / 'tiny.py')
    state = torch.get_rng_state()
    first, again, other = (
        build_model(config, seed).backbone.state_dict()
        for seed in (1, 1, 2))
    name = 'patch_embed.projection.weight'
    assert torch.equal(first[name], again[name])
    assert not torch.equal(first[name], other[name])
    assert torch.equal(state, torch.get_rng_state())


def test_unfit_checkpoint_ends_with_a_message(folder, tmp_path, run):
    """An exported backbone has no decoder to paint with."""
    model = build_model(Config.fromfile(folder / 'tiny.py'))
    encoder = {f'backbone.{name}': value
               for name, value in model.backbone.state_dict().items()}
    torch.save(dict(state_dict=encoder, meta={}), tmp_path / 'backbone.pth')
    with pytest.raises(SystemExit, match='error: .*neck'):
        run('tools/analysis/visualize_reconstruction.py', folder / 'tiny.py',
            tmp_path / 'backbone.pth', folder / 'train' / 'dark' / '0.png')
    with pytest.raises(SystemExit, match='error: .*absent.pth'):
        run('tools/benchmarks/probe.py', folder / 'tiny.py',
            tmp_path / 'absent.pth')
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / 'whole.pth')
    with pytest.raises(SystemExit, match='error: .*absent.png'):
        run('tools/analysis/visualize_reconstruction.py', folder / 'tiny.py',
            tmp_path / 'whole.pth', tmp_path / 'absent.png')


CLASSIFIER = """
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmeffmae.MaskedViT',
        arch=dict(embed_dims=32, num_layers=3, num_heads=2,
                  feedforward_channels=64),
        img_size=(16, 24), patch_size=8, out_type='avg_featmap',
        drop_indices=(0, 1)),
    neck=None,
    head=dict(type='LinearClsHead', num_classes=2, in_channels=32))
data_preprocessor = dict(mean=[120.0, 110.0, 100.0], std=[60.0, 60.0, 60.0])
train_dataloader = dict(batch_size=2, dataset=dict(type='none is there'))
train_cfg = dict(max_epochs=1)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=1.0))
test_dataloader = dict(
    batch_size=4,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmpretrain.CustomDataset', data_root='{root}', data_prefix='val',
        pipeline=[dict(type='mmpretrain.LoadImageFromFile'),
                  dict(type='mmpretrain.PackInputs')]))
test_cfg = dict()
test_evaluator = dict(type='Accuracy', topk=(1, ))
"""


def test_one_classifier_is_judged_at_several_drop_ratios(
        folder, tmp_path, run, monkeypatch):
    config = tmp_path / 'classifier.py'
    config.write_text(CLASSIFIER.replace('{root}', str(folder)))
    model = build_model(Config.fromfile(config), seed=3).eval()
    # The wrong class of each, by the brightness that a random encoder shows.
    dark, light = (
        torch.from_numpy(np.stack([
            np.asarray(Image.open(file)) for file in (folder / 'val' / name).iterdir()
        ])).permute(0, 3, 1, 2) for name in ('dark', 'light'))
    means = [model.backbone(model.data_preprocessor(
        dict(inputs=list(images)))['inputs'])[-1].mean(0) for images in (dark, light)]
    away, middle = means[1] - means[0], (means[0] + means[1]) / 2
    model.head.fc.weight.data = torch.stack([away, -away]).detach()
    model.head.fc.bias.data = torch.stack([-away @ middle, away @ middle]).detach()
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'weights.pth')
    calls, call = set(), TokenDrop.__call__

    def spy(drop, index, x, layout):
        calls.add((drop.metric, drop.ratio))
        return call(drop, index, x, layout)

    monkeypatch.setattr(TokenDrop, '__call__', spy)
    shard = tmp_path / 'shard.json'
    command = ('tools/benchmarks/drop_accuracy.py', config, tmp_path / 'weights.pth')
    run(*command, '--drop-ratios', 0, .5, '--seeds', 0, 1, '--json', shard)
    assert calls == {('redundancy', 0), ('redundancy', .5), ('random', .5)}
    assert [(arm['metric'], arm['drop_ratio'], arm['tokens'], arm['values'])
            for arm in json.loads(shard.read_text())['arms']] == [
        ('redundancy', 0, [6, 6, 6], [0.0]), ('redundancy', .5, [6, 3, 1], [0.0]),
        ('random', .5, [6, 3, 1], [0.0, 0.0])]
    with pytest.raises(SystemExit, match='error: a drop ratio of 0.9 leaves none'):
        run(*command, '--drop-ratios', .9)
    with pytest.raises(SystemExit, match='error: .* has no test_cfg, test_dataloader'):
        run(command[0], folder / 'tiny.py', command[2])


def test_numbers_of_a_log_are_kept(tmp_path, run):
    folder = tmp_path / 'run' / '20260101_000000' / 'vis_data'
    folder.mkdir(parents=True)
    (folder / 'scalars.json').write_text('\n'.join(
        json.dumps(dict(loss=1 / step, step=step)) for step in (10, 20)))
    (tmp_path / 'run' / 'environment.json').write_text(json.dumps(dict(
        config='a.py', config_hash='b', seed=3, command=['/x/python', 'train.py'])))
    tool = 'tools/benchmarks/record_log.py'
    run(tool, tmp_path / 'run', 'loss', '--json', tmp_path / 'out.json')
    result = json.loads((tmp_path / 'out.json').read_text())
    assert result['curves'] == dict(loss=dict(iterations=[10, 20], values=[.1, .05]))
    assert result['seed'] == 3 and result['train_command'] == ['python', 'train.py']
    with pytest.raises(SystemExit, match='has no cosine in its log'):
        run(tool, tmp_path / 'run', 'cosine', '--json', tmp_path / 'out.json')
