# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import json
import runpy
from collections import Counter
from pathlib import Path

import pytest
import torch

from mmeffmae.benchmarks import dense, inits
from mmeffmae.benchmarks.dense import DenseRun
from mmeffmae.benchmarks.inits import Comparison
from mmeffmae.benchmarks.label_share import write_share
from mmeffmae.checkpoint.layouts import from_own_names
from mmeffmae.models import MaskedViT

TOOL = runpy.run_path(str(Path(__file__).parents[2] / 'tools/compare_inits.py'))


def test_a_share_of_maps_is_repeated_to_the_length_of_all(image_folder, tmp_path):
    loader = dict(dataset=dict(dataset=dict(
        type='BaseSegDataset', data_root=str(image_folder),
        data_prefix=dict(img_path='even', seg_map_path='even'))))
    lists = {}
    for share in (.34, .67):
        option, = write_share(loader, share, tmp_path)
        key, _, path = option.partition('=')
        assert key == 'train_dataloader.dataset.dataset.ann_file'
        lists[share] = Counter(Path(path).read_text().split())
    assert list(lists[.34].values()) == [3, 3]
    assert sum(lists[.67].values()) == 6 and set(lists[.34]) < set(lists[.67])
    assert all((image_folder / f'even/{name}.png').is_file() for name in lists[.67])
    assert write_share(loader, 1.0, tmp_path) == []
    loader['dataset']['dataset']['data_prefix'] = dict(img_path='even')
    with pytest.raises(ValueError, match='share of BaseSegDataset cannot be taken'):
        write_share(loader, .5, tmp_path)


def test_a_share_of_boxes_keeps_them_with_their_images(tmp_path):
    source = dict(
        images=[dict(id=7 * i, file_name=f'{i}.jpg') for i in range(10)],
        annotations=[dict(id=100 + i, image_id=7 * (i // 2), bbox=[i, 0, 1, 1])
                     for i in range(20)], categories=[dict(id=1)])
    (tmp_path / 'boxes.json').write_text(json.dumps(source))
    loader = dict(dataset=dict(
        type='CocoDataset', data_root=str(tmp_path), ann_file='boxes.json'))
    option, = write_share(loader, .2, tmp_path)
    content = json.loads(Path(option.partition('=')[2]).read_text())
    names = {image['id']: image['file_name'] for image in content['images']}
    assert len(names) == 10 and len(set(names.values())) == 2
    assert len({a['id'] for a in content['annotations']}) == 20
    for annotation in content['annotations']:
        image = int(names[annotation['image_id']].split('.')[0])
        assert annotation['bbox'][0] // 2 == image


def test_a_share_is_taken_of_the_labels_that_options_name(tmp_path, monkeypatch):
    for name, images in (('configs', 3), ('mine', 20)):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'a.json').write_text(json.dumps(dict(
            images=[dict(id=i) for i in range(images)], annotations=[])))
    (tmp_path / 'det.py').write_text(
        'model = dict(backbone=dict(init_cfg=None))\n'
        f'train_dataloader = dict(dataset=dict(data_root="{tmp_path}/configs", '
        'ann_file="a.json"))')
    run = DenseRun(tmp_path / 'det.py', None, 0, (
        f'train_dataloader.dataset.data_root={tmp_path}/mine', ), share=.1)

    def trained(command, check):
        content = json.loads(Path(command[-1].partition('=')[2]).read_text())
        assert len(content['images']) == 20
        raise FileNotFoundError('the end of this test')

    monkeypatch.setattr(dense.subprocess, 'run', trained)
    with pytest.raises(FileNotFoundError, match='end of this test'):
        run.measure(tmp_path / 'out', tmp_path / 'work')


def test_share_and_start_name_a_dense_run(tmp_path):
    config = tmp_path / 'seg.py'
    config.write_text(
        'model = dict(backbone=dict(init_cfg=None))\n'
        'train_dataloader = dict(dataset=dict(data_root="data/x"))')
    (tmp_path / 'a.pth').write_bytes(b'1')
    run = DenseRun(config, tmp_path / 'a.pth', 0, label='public')
    assert run.name.startswith('seg_public_')
    names = {DenseRun(config, tmp_path / 'a.pth', 0, label='public', share=share).name
             for share in (.1, .5, 1.)}
    assert len(names) == 3 and run.name in names
    assert dense.write_share is write_share


@pytest.mark.parametrize('values, words', [
    (dict(scratch=[60, 61, 62], public=[70, 71, 72]), 'scratch -10.0.*use the public'),
    (dict(continued=[80, 81, 82], public=[70, 71, 72], scratch=[60, 61, 62]),
     'continued \\+10.0 points over public: use continued'),
    (dict(continued=[70, 75, 72], public=[70, 71, 72]),
     'not resolved by 3 seeds.*use the public weights, which cost nothing'),
    (dict(scratch=[60], untrained=[50]), 'not resolved by 1 seed .*has not paid yet'),
    (dict(untrained=[60], public=[50]), 'no weights of our own'),
])
def test_verdict(values, words):
    one = Comparison('x', 'mIoU', {n: {1.0: v} for n, v in values.items()}, 5)
    import re
    assert re.search(words, one.verdict(1.0)), one.verdict(1.0)


CONFIG = """
default_scope = 'mmpretrain'
model = dict(
    type='mmeffmae.MaskedAutoencoder',
    backbone=dict(
        type='mmeffmae.MaskedViT', img_size=32, patch_size=8,
        arch=dict(embed_dims=32, num_layers=2, num_heads=2,
                  feedforward_channels=64)),
    neck=dict(type='mmeffmae.MaskedDecoder', decoder_embed_dim=32, decoder_depth=1,
              decoder_num_heads=2),
    head=dict(type='mmeffmae.PixelHead'),
    masking=dict(type='mmeffmae.RandomMasking'))
data_preprocessor = dict(
    type='mmpretrain.SelfSupDataPreprocessor',
    mean=[120.0, 110.0, 100.0], std=[60.0, 60.0, 60.0], to_rgb=True)
train_dataloader = dict(dataset=dict(pipeline=[
    dict(type='mmeffmae.SeedSample'), dict(type='mmeffmae.LoadImage'),
    dict(type='mmpretrain.RandomResizedCrop', scale=32),
    dict(type='mmpretrain.PackInputs')]))
"""


def test_classifiers_from_a_public_file(image_folder, tmp_path, capsys):
    """Of timm's names; one JSON a run, a table, a plot, and nothing twice."""
    pytest.importorskip('mmpretrain')
    config = tmp_path / 'pretrain.py'
    config.write_text(CONFIG)
    encoder = MaskedViT(
        dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64),
        img_size=32, patch_size=8)
    encoder.init_weights()
    torch.save(from_own_names(encoder.state_dict(), 'timm'), tmp_path / 'timm.pth')
    out = tmp_path / 'out'
    command = [
        str(config), '--public', str(tmp_path / 'timm.pth'), '--labelled',
        str(image_folder), str(image_folder), '--shares', '0.5', '1', '--seeds', '0',
        '--finetune', 'views=24', 'batch_size=6', '--out', str(out),
        '--work-dir', str(tmp_path / 'work'), '--device', 'cpu']
    TOOL['main'](command)
    shards = {path.name: json.loads(path.read_text()) for path in out.glob('*.json')}
    assert Counter((of['init'], of['share']) for of in shards.values()) == {
        (init, share): 1 for init in ('untrained', 'public') for share in (.5, 1)}
    assert {of['iterations'] for of in shards.values()} == {4}
    assert {of['settings']['images'] for of in shards.values()
            if of['share'] == .5} == {6}
    table = (out / 'table.md').read_text()
    assert '| start | 50 % of the labels | 100 % of the labels |' in table
    assert 'no weights of our own' in table and (out / 'plot.png').is_file()
    said = capsys.readouterr().out
    assert 'licence unknown' in said
    assert '4 runs; a classifier takes 4 steps of 6 images' in said
    # Another encoder is refused before anything is trained.
    narrow = MaskedViT(
        dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=64),
        img_size=32, patch_size=8)
    torch.save(from_own_names(narrow.state_dict(), 'timm'), tmp_path / 'narrow.pth')
    with pytest.raises(SystemExit, match='--scratch does not fit the encoder of'):
        TOOL['main']([*command, '--scratch', str(tmp_path / 'narrow.pth'),
                      '--out', str(tmp_path / 'none')])
    assert not (tmp_path / 'none').exists()
    times = {path: path.stat().st_mtime_ns for path in out.glob('*.json')}
    TOOL['main'](command)
    assert times == {path: path.stat().st_mtime_ns for path in out.glob('*.json')}


def test_loading_does_not_keep_a_gpu_waiting(image_folder, tmp_path, monkeypatch):
    """Several processes; on a CPU none, which would take the cores of training."""
    (tmp_path / 'pretrain.py').write_text(CONFIG)
    asked = []

    def probe_task(*args, num_workers, **kwargs):
        asked.append(num_workers)
        raise torch.cuda.OutOfMemoryError('CUDA out of memory')

    monkeypatch.setattr(inits, 'build_model', lambda *args: None)
    monkeypatch.setattr(inits, 'probe_task', probe_task)
    command = [str(tmp_path / 'pretrain.py'), '--labelled', str(image_folder),
               str(image_folder), '--out', str(tmp_path), '--device']
    for device in ('cpu', 'cuda'):
        with pytest.raises(SystemExit, match=r'(?s)CUDA out.*--finetune batch_size=64'):
            TOOL['main']([*command, device])
    assert asked[0] == 0 and 1 <= asked[1] <= 16
