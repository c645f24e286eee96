# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Boxes and masks over scales and flips, on tiny detectors."""
import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import MODELS, DefaultScope

pytest.importorskip('mmdet')

from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_overlaps

from mmeffmae.integrations.mmdet import InstanceTTAModel
from mmeffmae.integrations.mmdet.instance_tta import _of_sizes, _View

MODELS_FOLDER = Path(__file__).parents[2] / 'configs/_base_/models'
SIDE, WIDTH = 64, 32
ARCH = dict(embed_dims=WIDTH, num_layers=4, num_heads=2, feedforward_channels=WIDTH)


@pytest.fixture(params=['mask-rcnn', 'htcpp'])
def detector(request, shrinkers):
    cfg = Config.fromfile(MODELS_FOLDER / f'{request.param}_vit-base-p16.py').model
    shrink_parts, shrink_encoder = shrinkers
    shrink_parts(cfg, {80: 3, 183: 5})
    shrink_encoder(cfg, ARCH, SIDE)
    cfg.backbone.init_cfg = None
    cfg.test_cfg.rcnn.score_thr = 0.
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg)
    return model.eval()


def view(image, size, flip=None, original=None):
    """An image as the pipeline packs it."""
    picture = torch.nn.functional.interpolate(
        image[None].float(), size, mode='bilinear', antialias=True)[0]
    picture = picture.flip(-1) if flip else picture
    original = original or tuple(image.shape[1:])
    meta = dict(
        ori_shape=original, img_shape=tuple(size), img_id=0, img_path='x',
        scale_factor=(size[1] / original[1], size[0] / original[0]))
    if flip is not None:
        meta.update(flip=flip, flip_direction='horizontal' if flip else None)
    sample = DetDataSample(metainfo=meta)
    return dict(inputs=picture.round().byte(), data_samples=sample)


def augmented(views):
    return pseudo_collate([{key: [v[key] for v in views] for key in views[0]}])


@pytest.fixture
def image():
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(1, 3, 8, 8, generator=generator) * 255
    return torch.nn.functional.interpolate(coarse, (SIDE, SIDE), mode='bicubic')[
        0].clamp(0, 255).round()


def test_one_view_equals_the_plain_prediction(detector, image):
    size = (96, 96)
    one = view(image, size)
    plain = detector.test_step(pseudo_collate([copy.deepcopy(one)]))[0].pred_instances
    model = InstanceTTAModel(module=detector)
    ours = model.test_step(augmented([view(image, size, flip=False)]))[0].pred_instances
    assert len(plain) == len(ours) == 16
    for key in ('bboxes', 'scores'):
        torch.testing.assert_close(ours[key], plain[key], rtol=1e-5, atol=1e-4)
    assert torch.equal(ours.labels, plain.labels)
    assert ours.masks.shape == (16, SIDE, SIDE)
    assert (ours.masks != plain.masks).float().mean() < 1e-3


def test_a_flip_is_undone(detector, image):
    """Flip of a mirrored image is the image: predictions mirror exactly."""
    model = InstanceTTAModel(module=detector)
    plain = model.test_step(augmented([view(image, (64, 64))]))[0].pred_instances
    mirrored = model.test_step(augmented(
        [view(image.flip(-1), (64, 64), flip=True)]))[0].pred_instances
    boxes = plain.bboxes[:, [2, 1, 0, 3]] * torch.tensor([-1, 1, -1, 1])
    boxes = boxes + torch.tensor([SIDE, 0, SIDE, 0])
    torch.testing.assert_close(mirrored.bboxes, boxes, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(mirrored.scores, plain.scores)
    wrong = mirrored.masks != plain.masks.flip(-1)
    assert wrong.float().mean() < 1e-3


def test_flip_and_identity_agree_on_a_symmetric_image(detector, image):
    symmetric = (image + image.flip(-1)) / 2
    model = InstanceTTAModel(module=detector, tta_cfg=dict(
        max_per_img=400, nms=dict(type='nms', iou_threshold=.999)))
    found = model.test_step(augmented([
        view(symmetric, (64, 64), flip=False), view(symmetric, (64, 64), flip=True)]))
    found = found[0].pred_instances
    # Each object has its mirror image of equal score.
    boxes = found.bboxes[:, [2, 1, 0, 3]] * torch.tensor([-1, 1, -1, 1])
    boxes = boxes + torch.tensor([SIDE, 0, SIDE, 0])
    alike = found.labels[:, None] == found.labels
    overlap, partner = (bbox_overlaps(found.bboxes, boxes) * alike).max(1)
    assert (overlap > .99).float().mean() > .95
    torch.testing.assert_close(
        found.scores[partner[:10]], found.scores[:10], rtol=1e-3, atol=1e-4)


def test_scales_merge_and_sizes_are_filtered(detector, image):
    views = [view(image, size, flip) for size in ((64, 64), (96, 96))
             for flip in (False, True)]
    model = InstanceTTAModel(
        module=detector, object_sizes=[('m', ), ('s', )],
        tta_cfg=dict(max_per_img=60))
    found = model.test_step(augmented(views))[0].pred_instances
    area = (found.bboxes[:, 2:] - found.bboxes[:, :2]).prod(1)
    assert 16 < len(found) <= 60 and (area < 96**2).all()
    assert found.masks.shape == (len(found), SIDE, SIDE)
    model.object_sizes = [('l', )] * 2  # nothing is that large
    empty = model.test_step(augmented(views))[0].pred_instances
    assert len(empty) == 0 and empty.masks.shape == (0, SIDE, SIDE)


def test_hand_checked_geometry():
    meta = dict(ori_shape=(10, 20), scale_factor=(2., 3.))
    seen = _View((), None, meta, 'horizontal')
    boxes = torch.tensor([[2., 1., 6., 4.]])  # in the image
    in_view = torch.tensor([[28., 3., 36., 12.]])  # 20 - 6 = 14, times 2
    assert torch.equal(seen.to_view(boxes), in_view)
    assert torch.equal(seen.to_image(in_view), boxes)
    two_classes = seen.to_image(in_view.repeat(1, 2))
    assert torch.equal(two_classes, boxes.repeat(1, 2))


def test_hand_checked_sizes():
    boxes = torch.tensor([[0., 0., 31., 33.], [0., 0., 32., 32.], [0., 0., 96., 96.]])
    scores = torch.tensor([[.5, .3, .2]] * 3)
    kept = _of_sizes(boxes, scores, ('s', 'l'))
    np.testing.assert_allclose(kept, [[.5, .3, .2], [0, 0, .2], [.5, .3, .2]])


def test_bad_settings_are_named(detector, image):
    with pytest.raises(ValueError, match="'huge'"):
        InstanceTTAModel(module=detector, object_sizes=[('huge', )])
    model = InstanceTTAModel(module=detector, object_sizes=[('s', ), ('l', )])
    with pytest.raises(ValueError, match='1 views of 2 object_sizes'):
        model.test_step(augmented([view(image, (64, 64))]))
    detector.roi_head = None
    del detector._modules['roi_head']
    with pytest.raises(TypeError, match='no rpn_head and roi_head'):
        InstanceTTAModel(module=detector)
