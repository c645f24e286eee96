# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import pytest
import torch
from mmpretrain.models import VisionTransformer
from torch import nn

from mmeffmae.checkpoint import CheckpointError, load_with_report
from mmeffmae.checkpoint.report import compare

ARCH = dict(
    embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)


def _vit(**settings):
    return VisionTransformer(**{
        **dict(arch=ARCH, img_size=32, patch_size=8, out_type='featmap'),
        **settings
    })


class _Pair(nn.Module):

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(2, 3)
        self.b = nn.Linear(3, 1)


def test_counts_by_hand():
    tensors = {
        'a.weight': torch.ones(3, 2),
        'a.bias': torch.ones(4),
        'b.weight': torch.ones(1, 3),
        'c.weight': torch.ones(1),
    }
    report = compare(_Pair(), tensors)
    assert report.loaded == ('a.weight', 'b.weight')
    assert report.mismatched == ('a.bias', )
    assert report.missing == ('b.bias', )
    assert report.unexpected == ('c.weight', )
    assert report.coverage == 50. and not report.complete
    allowed = compare(_Pair(), tensors, allow=['b.bias', 'c.*'])
    assert allowed.coverage == pytest.approx(200 / 3)
    assert 'missing        1   25.0 %  b.bias (allowed)' in str(allowed)
    assert 'a.bias (4,) -> (3,)' in str(allowed)


def test_loads_all_or_nothing():
    module, other = _Pair(), _Pair()
    before = module.a.weight.clone()
    state = {f'backbone.{k}': v for k, v in other.state_dict().items()}
    del state['backbone.b.bias']
    with pytest.raises(CheckpointError, match=r'1 keys are missing.*b\.bias'):
        load_with_report(module, state, prefix='backbone.')
    assert torch.equal(module.a.weight, before)
    report = load_with_report(
        module, state, prefix='backbone.', allow=['b.bias'])
    assert report.complete and report.coverage == 100.
    assert torch.equal(module.a.weight, other.a.weight)


def test_a_wrong_prefix_names_the_right_one():
    state = {
        f'model.encoder.{key}': value
        for key, value in _vit().state_dict().items()
    }
    with pytest.raises(CheckpointError) as caught:
        load_with_report(
            _vit(), state, prefix='backbone.', source='runs/last.pth')
    message = str(caught.value)
    assert "prefix 'backbone.' selects no tensor" in message
    assert "runs/last.pth; the file has 'model.' (30 keys)" in message
    assert "set prefix='model.encoder.', which holds 30 of the 30" in message
    with pytest.raises(CheckpointError, match='no prefix fits'):
        load_with_report(_vit(), {'conv1.w': torch.ones(1)})


def test_another_architecture_is_described():
    deeper = _vit(arch=dict(ARCH, embed_dims=48, num_layers=3))
    with pytest.raises(CheckpointError) as caught:
        load_with_report(_vit(), deeper.state_dict())
    message = str(caught.value)
    assert 'first cls_token: (1, 1, 48) in the file, (1, 1, 32)' in message
    assert 'the file looks like an encoder with embed_dims 48, 3 layers, ' \
        'patch_size 8, the model has embed_dims 32, 2 layers' in message
    with pytest.raises(CheckpointError, match='12 keys are unexpected'):
        # It would fill every key of the model, and still be the wrong file.
        load_with_report(_vit(), _vit(arch=dict(ARCH, num_layers=3)).state_dict())


@pytest.mark.parametrize('form, missing, unexpected', [
    (dict(final_norm=False), 0, 2),
    (dict(out_type='avg_featmap'), 2, 0),
    (dict(with_cls_token=False), 0, 1),
])
def test_output_forms_declare_their_norms(form, missing, unexpected):
    report = load_with_report(_vit(**form), _vit().state_dict())
    assert len(report.missing) == missing
    assert len(report.unexpected) == unexpected
    assert report.complete


def test_an_encoder_declares_keys_of_its_own():
    module = _Pair()
    module.optional_keys = lambda: dict(missing=['b.*'], unexpected=['x'])
    report = compare(module, {
        **module.a.state_dict(prefix='a.'), 'x': torch.ones(1)
    })
    assert report.complete and report.num_keys == 2


def test_equal_counts_of_another_grid_are_resized():
    wide, tall = _vit(img_size=(16, 64)), _vit()
    nn.init.normal_(wide.pos_embed)
    # 2x8 and 4x4: stock loading would take the table over as it is.
    report = load_with_report(tall, wide.state_dict(), source_grid=(2, 8))
    assert report.resized == ('pos_embed', )
    rows = wide.pos_embed[0, 1:].reshape(2, 8, 32).permute(2, 0, 1)
    expected = nn.functional.interpolate(
        rows[None], (4, 4), mode='bicubic').flatten(2).transpose(1, 2)
    torch.testing.assert_close(tall.pos_embed[:, 1:], expected)
    with pytest.raises(CheckpointError, match='export_backbone'):
        load_with_report(tall, _vit(img_size=(24, 32)).state_dict())
