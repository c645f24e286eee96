# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import pytest
import torch
from mmengine.config import ConfigDict

from mmeffmae.checkpoint import load_with_report
from mmeffmae.models import SwinTransformer
from mmeffmae.models.layers import resize_bias_table

PARTS = dict(arch=dict(embed_dims=8, depths=[1, 1], num_heads=[1, 2]),
             img_size=64, out_indices=(1, ), pad_small_map=True)


def test_other_windows_load_and_keep_the_shape_of_the_bias():
    torch.manual_seed(0)
    six = SwinTransformer(**PARTS, window_size=6)
    seven = SwinTransformer(**PARTS, window_size=7)
    report = load_with_report(seven, six.state_dict())
    assert report.coverage == 100
    assert [k for k in report.resized if k.endswith('bias_table')] == list(
        report.resized) and len(report.resized) == 2
    table = seven.stages[0].blocks[0].attn.w_msa.relative_position_bias_table
    assert table.shape == (169, 1)
    index = seven.stages[0].blocks[0].attn.w_msa.relative_position_index
    assert index.shape == (49, 49)  # its own
    assert seven(torch.rand(1, 3, 64, 96))[0].shape == (1, 16, 8, 12)


def test_bias_tables_are_resized_as_mmdet_does(tmp_path):
    mmdet = pytest.importorskip('mmdet.models')
    parts = dict(embed_dims=6, depths=(1, ), num_heads=(3, ), strides=(4, ),
                 out_indices=(0, ))
    name = 'stages.0.blocks.0.attn.w_msa.relative_position_bias_table'
    torch.manual_seed(0)
    six = mmdet.SwinTransformer(**parts, window_size=6).state_dict()
    six[name].normal_()
    del six[name.replace('bias_table', 'index')]  # mmdet would not load it
    torch.save({f'backbone.{k}': v for k, v in six.items()}, tmp_path / 'six.pth')
    seven = mmdet.SwinTransformer(**parts, window_size=7, init_cfg=ConfigDict(
        type='Pretrained', checkpoint=str(tmp_path / 'six.pth')))
    seven.init_weights()
    torch.testing.assert_close(
        resize_bias_table(six[name], 169), seven.state_dict()[name])


def test_hand_checked_table():
    """A constant stays; the offset 0 stays in the centre of a symmetric one."""
    torch.testing.assert_close(
        resize_bias_table(torch.full((9, 2), 3.), 25), torch.full((25, 2), 3.))
    peak = torch.zeros(9, 1)
    peak[4] = 1
    resized = resize_bias_table(peak, 25).view(5, 5)
    assert resized.argmax() == 12 and torch.allclose(resized, resized.flip(0, 1))
    with pytest.raises(ValueError, match='120'):
        resize_bias_table(torch.zeros(120, 2), 169)
