# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""tools/test.py on a tiny classifier."""
import importlib.util
import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.models import ImageClassifier

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('tool', ROOT / 'tools/test.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize('tta', [[], ['--tta']])
def test_metrics_are_written(tta, tool, tiny_cfg, image_folder, tmp_path,
                             monkeypatch):
    cfg = tiny_cfg()
    loader = cfg.train_dataloader
    classifier = dict(
        type='ImageClassifier',
        backbone=cfg.model.backbone,
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=2, in_channels=32))
    config = tmp_path / f'{tmp_path.name}.py'  # names the run
    Config(dict(
        default_scope='mmpretrain',
        default_hooks=cfg.default_hooks,
        model=classifier,
        test_dataloader=dict(
            batch_size=4,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='default_collate'),
            dataset=dict(
                type='mmeffmae.LabelledImages', data_root=str(image_folder),
                test_mode=True, pipeline=[
                    dict(type='mmeffmae.LoadImage'),
                    dict(type='mmpretrain.Resize', scale=32),
                    loader.dataset.pipeline[-1]])),
        test_cfg=dict(),
        test_evaluator=dict(type='Accuracy'),
        work_dir=str(tmp_path / 'run'))).dump(config)

    init_default_scope('mmpretrain')  # other tests leave theirs
    # A head that always answers class 0, to which half of the images belong.
    model = ImageClassifier(
        **{k: v for k, v in classifier.items() if k != 'type'})
    model.head.fc.weight.data.zero_()
    model.head.fc.bias.data.copy_(torch.tensor([1., 0.]))
    torch.save(
        dict(state_dict=model.state_dict()), tmp_path / 'weights.pth')
    out = tmp_path / 'metrics.json'
    monkeypatch.setattr('sys.argv', [
        'test.py', str(config), str(tmp_path / 'weights.pth'),
        '--out', str(out), *tta])
    tool.main()
    assert json.loads(out.read_text()) == {'accuracy/top1': 50.0}
