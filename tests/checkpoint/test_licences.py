# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import pytest
import torch
from mmengine.config import Config

from mmeffmae.checkpoint.licences import licence_of
from mmeffmae.engine.launch import set_init


@pytest.mark.parametrize('name, licence', [
    ('mae_pretrain_vit_base.pth', 'CC-BY-NC 4.0'),
    ('vit_base_patch16_224.mae.safetensors', 'CC-BY-NC 4.0'),
    ('dinov2_vits14_pretrain.pth', 'Apache-2.0 (DINOv2'),
    ('dino_vitbase16_pretrain.pth', 'Apache-2.0 (DINO'),
    ('model.safetensors', 'unknown'),
    ('my_mae_pretrain_vit_base.pth', 'unknown')])
def test_names_of_publishers_are_known_and_no_others(tmp_path, name, licence):
    assert licence_of(tmp_path / name, {}).startswith(licence)


def test_a_model_card_beside_the_file_is_believed(tmp_path):
    card = tmp_path / 'README.md'
    card.write_text('---\ntags:\n- vision\nlicense: apache-2.0\n---\n# A model\n')
    path = tmp_path / 'model.safetensors'
    assert licence_of(path, {}).startswith('apache-2.0 (says the model card')
    card.write_text('# A model\nlicense: not-in-the-front-matter\n')
    assert licence_of(path, {}).startswith('unknown')


def test_continued_weights_keep_their_origin(tmp_path):
    meta = dict(mmeffmae_version='0.1.0')
    assert 'no other initial weights' in licence_of('b.pth', dict(meta=meta))
    meta['initial_weights'] = 'mae_pretrain_vit_base.pth, CC-BY-NC 4.0'
    assert 'CC-BY-NC' in licence_of('b.pth', dict(meta=meta))


def test_init_prints_the_licence(tmp_path, capsys):
    path = tmp_path / 'dinov2_vits14_pretrain.pth'
    torch.save(dict(cls_token=torch.zeros(1, 1, 4)), path)
    set_init(Config(dict(model=dict(backbone=dict()))), str(path))
    assert f'licence of {path}: Apache-2.0' in capsys.readouterr().out
