# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import pytest
from PIL import Image

from mmeffmae.datasets.labelled import held_out_indices, held_out_quotas
from mmeffmae.registry import DATASETS


def write_classes(root, sizes):
    for name, size in sizes.items():
        (root / name).mkdir(parents=True)
        for i in range(size):
            Image.new('RGB', (8, 8)).save(root / name / f'{i:02d}.png')


def build(root, **kwargs):
    return DATASETS.build(dict(
        type='mmeffmae.LabelledImages', data_root=str(root),
        pipeline=[dict(type='mmeffmae.LoadImage')], **kwargs))


def content(dataset):
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    return [('/'.join(i['img_path'].split('/')[-2:]), i['gt_label'])
            for i in infos]


def test_quotas_by_largest_remainder():
    # 4 * (5, 3, 2) / 10 = (2.0, 1.2, 0.8)
    assert held_out_quotas({0: 5, 1: 3, 2: 2}, 4) == {0: 2, 1: 1, 2: 1}
    # 1.5 each: the smaller label gets the odd one.
    assert held_out_quotas({0: 2, 1: 2}, 3) == {0: 2, 1: 1}


def test_held_out_samples_are_evenly_spaced_in_each_class():
    # Two of six: the middles of the halves 0..2 and 3..5; one of three: 1.
    assert held_out_indices([0] * 6 + [1] * 3, 3) == {1, 4, 7}


def test_splits_are_disjoint_and_complete(tmp_path):
    write_classes(tmp_path, dict(cat=6, dog=3))
    held_out = build(tmp_path, held_out=3, split='held_out')
    train = build(tmp_path, held_out=3, split='train')
    assert content(held_out) == [
        ('cat/01.png', 0), ('cat/04.png', 0), ('dog/01.png', 1)]
    assert sorted(content(held_out) + content(train)) == content(
        build(tmp_path))
    assert len(train) == 6 and train.metainfo['classes'] == ('cat', 'dog')


@pytest.mark.parametrize('arguments, message', [
    (dict(held_out=9), 'held_out 9 does not fit the 9 images .* 0 to 8'),
    (dict(split='held_out'), 'held_out 0 does not fit .* 1 to 8'),
    (dict(split='val'), "split 'val' is unknown")])
def test_impossible_splits(tmp_path, arguments, message):
    write_classes(tmp_path, dict(cat=6, dog=3))
    with pytest.raises(ValueError, match=message):
        build(tmp_path, **arguments)


def test_missing_folder_and_folder_without_classes(tmp_path):
    with pytest.raises(FileNotFoundError, match='absent.* does not exist'):
        build(tmp_path / 'absent')
    Image.new('RGB', (8, 8)).save(tmp_path / 'loose.png')
    with pytest.raises(FileNotFoundError, match='no images in sub-folders'):
        build(tmp_path)
