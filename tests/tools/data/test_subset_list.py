# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import runpy
from pathlib import Path

import pytest

from mmeffmae.datasets import UnlabelledImages

TOOL = runpy.run_path(
    str(Path(__file__).parents[3] / 'tools/data/subset_list.py'))


def test_list_is_stratified_and_read(image_folder, tmp_path, capsys):
    file = tmp_path / 'list.txt'
    TOOL['main']([str(image_folder), '--share', '0.34', '--out', str(file)])
    names = file.read_text().split()
    assert [name.split('/')[0] for name in names] == ['even'] * 2 + ['odd'] * 2
    assert '4 images, 2 to 2 a class' in capsys.readouterr().out
    TOOL['main']([str(image_folder), '--share', '0.34', '--out', str(file)])
    assert file.read_text().split() == names
    dataset = UnlabelledImages(str(image_folder), ann_file=str(file))
    assert [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))] == [
        str(image_folder / name) for name in names]
    TOOL['main']([str(image_folder), '--stems', '--out', str(file)])
    assert not any(n.endswith('.png') for n in file.read_text().split())


def test_missing_list_names_the_tool(image_folder):
    with pytest.raises(FileNotFoundError, match='gone.txt.*subset_list.py'):
        UnlabelledImages(str(image_folder), ann_file='gone.txt')
    with pytest.raises(SystemExit, match='does not exist'):
        TOOL['main'](['gone', '--out', 'nothing'])
