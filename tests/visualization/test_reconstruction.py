# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import numpy as np
import pytest
import torch
from mmpretrain.models import SelfSupDataPreprocessor
from PIL import Image

from mmeffmae.masking import MaskPlan, ParallelMasking
from mmeffmae.visualization import draw_reconstruction, save_picture, to_uint8_rgb
from mmeffmae.visualization.reconstruction import MASKED

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def photographs(seed=0):
    """RGB pictures (2, 3, 16, 24), uint8."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(
        0, 256, (2, 3, 16, 24), dtype=torch.uint8, generator=generator)


def preprocess(preprocessor, loaded):
    return preprocessor(dict(inputs=loaded, data_samples=None))['inputs']


@pytest.mark.parametrize('options', [
    dict(mean=MEAN, std=STD, to_rgb=True),
    dict(mean=MEAN, std=STD, bgr_to_rgb=True),
    dict(mean=MEAN, std=STD),
    dict(to_rgb=True),
])
def test_normalisation_and_channel_order_are_undone(options):
    preprocessor = SelfSupDataPreprocessor(**options)
    images = preprocess(preprocessor, photographs().flip(1))
    assert torch.equal(to_uint8_rgb(images, preprocessor), photographs())


def test_channel_order_of_an_rgb_loader_can_be_given():
    preprocessor = SelfSupDataPreprocessor(MEAN, STD)
    images = preprocess(preprocessor, photographs())
    assert torch.equal(
        to_uint8_rgb(images, preprocessor, 'rgb'), photographs())
    with pytest.raises(ValueError, match="'grb'.*'rgb' or 'bgr'"):
        to_uint8_rgb(images, preprocessor, 'grb')


def test_grey_images_become_rgb_and_others_are_named():
    preprocessor = SelfSupDataPreprocessor([100.0], [50.0])
    grey = to_uint8_rgb(torch.tensor([[[[-2.0, 9.0]]]]), preprocessor)
    assert grey.tolist() == [[[[0, 255]]] * 3]
    with pytest.raises(ValueError, match='4 channels'):
        to_uint8_rgb(torch.zeros(1, 4, 2, 2), preprocessor)


def test_picture_shows_original_seen_and_predicted():
    """Tile by tile, on a 2 × 3 grid with K = 2 views of 3 patches."""
    preprocessor = SelfSupDataPreprocessor(MEAN, STD, to_rgb=True)
    images = preprocess(preprocessor, photographs().flip(1))
    predicted = preprocess(preprocessor, torch.stack(
        [photographs(seed) for seed in (1, 2)], dim=1).flatten(0, 1).flip(1))
    noise = torch.rand(2, 2, 3, generator=torch.Generator().manual_seed(5))
    plan = ParallelMasking(2)(noise)
    picture = draw_reconstruction(
        images, predicted.unflatten(0, (2, 2)), plan, preprocessor, margin=1)
    assert picture.shape == (2 * 17 + 1, 5 * 25 + 1, 3)
    assert picture.dtype == np.uint8
    assert (picture[0] == 255).all() and (picture[:, -1] == 255).all()

    def tile(row, column):
        part = picture[row * 17 + 1:(row + 1) * 17,
                       column * 25 + 1:(column + 1) * 25]
        return torch.from_numpy(part).permute(2, 0, 1)

    for row in range(2):
        original = photographs()[row]
        assert torch.equal(tile(row, 0), original)
        for view in range(2):
            seen, drawn = tile(row, 1 + 2 * view), tile(row, 2 + 2 * view)
            assert torch.equal(drawn, photographs(1 + view)[row])
            for patch in range(6):
                area = (slice(None), slice(8 * (patch // 3), 8 * (patch // 3) + 8),
                        slice(8 * (patch % 3), 8 * (patch % 3) + 8))
                if patch in plan.ids_keep[row, view]:
                    assert torch.equal(seen[area], original[area])
                else:
                    assert (seen[area] == MASKED).all()


def test_hidden_slots_are_not_shown():
    """Patches 2 and 0 are kept, and 2 is seen as a learnable token."""
    plan = MaskPlan(
        torch.tensor([[[2, 0]]]), torch.tensor([[[1, 3]]]), (2, 2),
        torch.tensor([[[True, False]]]))
    preprocessor = SelfSupDataPreprocessor(to_rgb=True)
    images = torch.full((1, 3, 2, 2), 9.0)
    picture = draw_reconstruction(
        images, images[:, None], plan, preprocessor, margin=0)
    assert picture[:, 2:4, 0].tolist() == [[9, MASKED], [MASKED, MASKED]]


def test_saved_picture_is_the_picture(tmp_path):
    picture = photographs()[0].permute(1, 2, 0).numpy()
    path = save_picture(picture, tmp_path / 'new' / 'a.png')
    assert np.array_equal(np.asarray(Image.open(path)), picture)
