# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import copy
import logging

import pytest
import torch
from mmengine.dataset import default_collate
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from torch.utils.data import DataLoader, Dataset

from mmeffmae.checkpoint import CheckpointError
from mmeffmae.checkpoint.export import export_backbone

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


class _Images(Dataset):

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return dict(
            inputs=torch.zeros(3, 32, 32),
            data_samples=DataSample().set_gt_label(index))


@pytest.fixture
def log():
    """Messages of mmengine's logger, which does not propagate."""
    lines = []

    class Keep(logging.Handler):

        def emit(self, record):
            lines.append((record.levelname, record.getMessage()))

    handler = Keep()
    return lines, handler


def _classifier(checkpoint, **settings):
    backbone = dict(
        type='VisionTransformer',
        arch=dict(
            embed_dims=32,
            num_layers=4,
            num_heads=2,
            feedforward_channels=64),
        img_size=32,
        patch_size=8,
        out_type='avg_featmap',
        final_norm=False)
    backbone.update(settings)
    if checkpoint is not None:
        backbone['init_cfg'] = dict(
            dict(
                type='Pretrained',
                checkpoint=str(checkpoint),
                prefix='backbone.'), **backbone.get('init_cfg', {}))
    return dict(
        type='ImageClassifier',
        data_preprocessor=dict(mean=MEAN, std=STD, to_rgb=True),
        backbone=backbone,
        head=dict(type='LinearClsHead', num_classes=2, in_channels=32))


def _start(model, work_dir, log, hook=None, load_from=None):
    """Run the start of a training: everything up to the first iteration."""
    lines, handler = log
    work_dir.mkdir(exist_ok=True)
    runner = Runner(
        model,
        str(work_dir),
        train_dataloader=DataLoader(
            _Images(), 2, collate_fn=default_collate),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.)),
        custom_hooks=[dict(type='mmeffmae.LoadReportHook', **(hook or {}))],
        default_hooks=dict(checkpoint=None),
        default_scope='mmpretrain',
        load_from=load_from,
        experiment_name=f'{work_dir}_{id(handler)}_{len(lines)}')
    runner.logger.addHandler(handler)
    MMLogger.get_current_instance().addHandler(handler)
    runner.train()
    return runner


@pytest.fixture
def exported(make_checkpoint):
    path, model = make_checkpoint()
    return export_backbone(path).path, model


def test_a_good_start_is_logged_in_full(exported, tmp_path, log):
    path, model = exported
    runner = _start(_classifier(path, img_size=64), tmp_path / 'run', log)
    text = '\n'.join(message for _, message in log[0])
    assert f"load report: {path} (prefix 'backbone.') -> Vision" in text
    assert 'resized        1    1.9 %  pos_embed (1, 17, 32) -> (1, 65, 32)' \
        in text
    assert 'ln2.weight (allowed)' in text and 'ln1.weight (allowed)' in text
    assert 'coverage   100.0 % of 52 required keys' in text
    assert ('WARNING', f"{path} (prefix 'backbone.') was trained with other "
            'preprocessing:\n  grid: checkpoint (4, 4), model (8, 8)') in log[0]
    torch.testing.assert_close(runner.model.backbone.layers[0].ln1.weight,
                               model.backbone.layers[0].ln1.weight)


def test_other_preprocessing_is_a_warning(exported, tmp_path, log):
    config = _classifier(exported[0])
    config['data_preprocessor'].update(to_rgb=False, mean=[0, 0, 0])
    _start(config, tmp_path / 'run', log)
    warnings = [text for level, text in log[0] if level == 'WARNING']
    shown = next(text for text in warnings if 'other preprocessing' in text)
    assert f'mean: checkpoint {MEAN}, model [0.0, 0.0, 0.0]' in shown
    assert 'channel_order: checkpoint rgb, model bgr' in shown


@pytest.mark.parametrize('change, message', [
    (dict(init_cfg=dict(prefix='encoder.')), r"set prefix='backbone\.'"),
    (dict(init_cfg=dict(prefix=None)), r"set prefix='backbone\.'"),
    (dict(patch_size=16), r'patch_size 8, the model has .*patch_size 16'),
    (dict(img_size=(16, 64)), r'of 4x4 patches and the model one of 2x8, of '
     r'equal count'),
    (dict(qkv_bias=False), r'4 keys are unexpected.*attn\.qkv\.bias'),
])
def test_a_bad_start_is_an_error(exported, tmp_path, log, change, message):
    with pytest.raises(CheckpointError, match=f'(?s){message}'):
        _start(_classifier(exported[0], **change), tmp_path / 'run', log)


def test_keys_can_be_allowed_by_name(exported, tmp_path, log):
    model = _classifier(exported[0], qkv_bias=False)
    _start(model, tmp_path / 'run', log, hook=dict(allow=['*.qkv.bias']))
    assert any('qkv.bias (allowed)' in text for _, text in log[0])


def test_weights_initialised_again_are_found(exported, tmp_path, log):
    # mmpretrain's MAE encoder loads and then draws its class token anew.
    model = dict(
        type='MAE',
        backbone=dict(_classifier(exported[0])['backbone'], type='MAEViT'),
        neck=dict(
            type='MAEPretrainDecoder',
            num_patches=16,
            patch_size=8,
            embed_dim=32,
            decoder_embed_dim=16,
            decoder_depth=1,
            decoder_num_heads=2),
        head=dict(
            type='MAEPretrainHead',
            patch_size=8,
            loss=dict(type='PixelReconstructionLoss', criterion='L2')),
        data_preprocessor=dict(mean=MEAN, std=STD, to_rgb=True))
    for key in 'out_type', 'final_norm':
        del model['backbone'][key]
    with pytest.raises(CheckpointError, match='first cls_token: MAEViT did '
                       'not load them or initialised them again'):
        _start(model, tmp_path / 'run', log)


def test_load_from_is_held_to_the_same(exported, tmp_path, log):
    path, _ = exported
    _start(_classifier(None), tmp_path / 'run', log, load_from=str(path))
    assert any('coverage   100.0 %' in text for _, text in log[0])
    content = torch.load(path, weights_only=True)
    broken = copy.deepcopy(content)
    del broken['state_dict']['backbone.layers.2.ffn.layers.1.weight']
    torch.save(broken, tmp_path / 'broken.pth')
    with pytest.raises(CheckpointError, match=r'1 keys are missing in the '
                       r'file, first layers\.2\.ffn\.layers\.1\.weight'):
        _start(_classifier(None), tmp_path / 'run', log,
               load_from=str(tmp_path / 'broken.pth'))
    content['meta'].update(grid=[2, 8])
    torch.save(content, tmp_path / 'wide.pth')
    with pytest.raises(CheckpointError, match='2x8 patches and the model one '
                       'of 4x4: the table is not square'):
        _start(_classifier(None), tmp_path / 'run', log,
               load_from=str(tmp_path / 'wide.pth'))


def test_testing_needs_no_pretrained_file(exported, tmp_path, log):
    path, _ = exported
    config = _classifier(path)
    trained = _start(config, tmp_path / 'run', log).model
    torch.save(dict(state_dict=trained.state_dict()), tmp_path / 'last.pth')
    path.unlink()
    runner = Runner(
        config,
        str(tmp_path / 'run'),
        test_dataloader=DataLoader(_Images(), 2, collate_fn=default_collate),
        test_cfg=dict(),
        test_evaluator=dict(type='Accuracy', topk=1),
        custom_hooks=[dict(type='mmeffmae.LoadReportHook')],
        default_scope='mmpretrain',
        load_from=str(tmp_path / 'last.pth'),
        experiment_name=f'{tmp_path}_test')
    assert 'accuracy/top1' in runner.test()
