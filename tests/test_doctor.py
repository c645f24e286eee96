# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""The doctor's judgement of made-up environments."""
import re
from pathlib import Path

from mmeffmae import doctor

ROOT = Path(__file__).parents[1]
TORCH = {'torch': '2.11.0+cu130', 'torchvision': '0.26.0'}
ONEDL = {
    **TORCH, 'onedl-mmengine': '0.10.12', 'onedl-mmcv': '2.3.6',
    'onedl-mmpretrain': '1.3.6', 'onedl-mmdetection': '3.5.1',
    'onedl-mmsegmentation': '1.4.2',
}
UPSTREAM = {
    **TORCH, 'mmengine': '0.10.7', 'mmcv-lite': '2.2.0', 'mmpretrain': '1.2.0'}


def diagnose(installed, failures=None):
    return doctor.diagnose(installed, failures or {}, python='3.11.7')


def test_tested_environment_passes_without_a_warning():
    found = diagnose(ONEDL)
    assert found.healthy
    assert not found.warnings
    assert {row.state for row in found.rows} == {'tested'}
    assert not any(found.tasks.values())


def test_two_owners_of_one_folder_are_refused_with_the_mend():
    for extra in ({'mmengine': '0.10.7'}, {'mmcv-lite': '2.2.0'}, {'mmdet': '3.3.0'}):
        found = diagnose({**ONEDL, **extra})
        assert not found.healthy
        assert len(found.errors) == 1
        assert f'{next(iter(extra))}' in found.errors[0]
        assert 'pip uninstall onedl-' in found.errors[0]
        assert found.errors[0] in doctor.report(found)


def test_mmcv_lite_allows_pretraining_but_no_dense_task():
    found = diagnose(UPSTREAM, {'mmcv._ext': 'ModuleNotFoundError: mmcv._ext'})
    assert found.healthy
    assert not found.tasks['classification']
    ops, mmdet = found.tasks['detection']
    assert 'mmcv-lite has none' in ops
    assert 'pip install onedl-mmdetection' in mmdet


def test_mmcv_lite_stands_in_for_onedl_mmcv_without_a_mixture_warning():
    lite = {**UPSTREAM, 'onedl-mmengine': '0.10.12', 'onedl-mmpretrain': '1.3.6'}
    del lite['mmengine'], lite['mmpretrain']
    found = diagnose(lite)
    assert found.healthy
    assert not found.warnings


def test_mixture_and_untested_versions_are_warnings():
    mixture = {**ONEDL, 'mmpretrain': '1.2.0', 'torch': '2.13.0'}
    del mixture['onedl-mmpretrain']
    found = diagnose(mixture)
    assert found.healthy
    assert any('both families' in text for text in found.warnings)
    assert 'torch 2.13.0 was not tested, torch 2.11.0 was' in found.warnings
    old = doctor.diagnose(ONEDL, {}, python='3.10.16')
    assert old.warnings == ['Python 3.10.16 was not tested, 3.11 was']


def test_unimportable_packages_name_the_reason():
    undefined = 'ImportError: undefined symbol: _ZN3c10'
    found = diagnose(ONEDL, {'mmcv._ext': undefined})
    assert found.healthy
    assert undefined in found.tasks['segmentation'][0]
    found = diagnose(ONEDL, {'mmcv': 'ImportError: libGL.so.1: cannot open'})
    assert not found.healthy
    assert 'libgl1' in found.tasks['pre-training'][0]
    assert not diagnose({}).healthy


def test_tested_versions_are_those_of_the_constraints():
    pins = dict(re.findall(
        r'^([\w-]+)==([^ ;\n]+)', (ROOT / 'constraints.txt').read_text(), re.M))
    for component in doctor.COMPONENTS:
        for name, tested in component.tested.items():
            assert pins.get(name) == tested, name
