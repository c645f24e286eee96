# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

MEAN = [123.675, 116.28, 103.53]
STD = [58.395, 57.12, 57.375]
ARCH = dict(
    embed_dims=32, num_layers=4, num_heads=2, feedforward_channels=64)


def pretrain_config(**backbone):
    return Config(
        dict(
            default_scope='mmpretrain',
            model=dict(
                type='mmeffmae.MaskedAutoencoder',
                backbone=dict(
                    dict(
                        type='mmeffmae.MaskedViT',
                        arch=ARCH,
                        img_size=32,
                        patch_size=8), **backbone),
                neck=dict(
                    type='mmeffmae.MaskedDecoder',
                    decoder_embed_dim=16,
                    decoder_depth=1,
                    decoder_num_heads=2),
                head=dict(type='mmeffmae.PixelHead'),
                masking=dict(type='mmeffmae.RandomMasking', mask_ratio=0.75),
                data_preprocessor=dict(
                    type='mmpretrain.SelfSupDataPreprocessor',
                    mean=MEAN,
                    std=STD,
                    to_rgb=True))))


@pytest.fixture
def make_checkpoint(tmp_path):
    """Write a checkpoint as pre-training does; returns its path and model."""

    def make(name='pretrain.pth', **backbone):
        cfg = pretrain_config(**backbone)
        torch.manual_seed(0)
        model = MODELS.build(cfg.model)
        model.init_weights()
        for parameter in model.backbone.layers.parameters():
            # The initial zeros and ones would hide a wrong or missing load.
            torch.nn.init.normal_(parameter, std=.3)
        path = tmp_path / name
        torch.save(
            dict(
                state_dict=model.state_dict(),
                meta=dict(cfg=cfg.pretty_text, epoch=3, seed=0)), path)
        return path, model

    return make
