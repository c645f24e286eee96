# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""The doctor's judgement of made-up environments."""
import re
import subprocess
import sys
from pathlib import Path

from mmeffmae import doctor, doctor_machine

ROOT = Path(__file__).parents[1]
TORCH = {'torch': '2.11.0+cu130', 'torchvision': '0.26.0', 'numpy': '2.2.6',
         'scipy': '1.17.1'}
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
    assert 'pip install mmdet`' in mmdet  # of the family that is there


def test_mmcv_lite_stands_in_for_onedl_mmcv_without_a_mixture_warning():
    lite = {**UPSTREAM, 'onedl-mmengine': '0.10.12', 'onedl-mmpretrain': '1.3.6'}
    del lite['mmengine'], lite['mmpretrain']
    found = diagnose(lite)
    assert found.healthy
    assert not found.warnings
    assert 'pip install onedl-mmdetection`' in found.tasks['detection'][-1]


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


def test_packages_that_do_not_fit_each_other_are_named():
    def say(**installed):
        return '\n'.join(doctor_machine.pairing_lines({**TORCH, **installed}))

    assert 'warning' not in say() and 'interp2d' in say()
    assert 'pip install "torchvision==0.26.*"' in say(torchvision='0.21.0')
    assert 'interp2d' not in say(scipy='1.13.1')
    assert 'setuptools<82' in say(mmengine='0.10.7', setuptools='82.0.0')
    assert 'setuptools' not in say(mmengine='0.10.7', setuptools='81.0.0')


def test_storage_and_data_say_what_is_missing(tmp_path, monkeypatch):
    usage = type('Usage', (), dict(free=2**30, total=64 * 2**20))
    monkeypatch.setattr(doctor_machine.shutil, 'disk_usage', lambda folder: usage)
    text = '\n'.join(doctor_machine.storage_lines(tmp_path))
    assert '1 GiB free' in text and '--work-dir' in text and '--shm-size' in text
    (tmp_path / 'coco').mkdir()
    monkeypatch.chdir(tmp_path)
    text = '\n'.join(doctor_machine.data_lines(str(tmp_path)))
    assert f'data in {tmp_path}: coco ' in text
    assert 'not there: mini/images (python tools/make_mini_scenes.py' in text


def test_a_step_is_tried_and_its_failure_reported(monkeypatch):
    line, = doctor_machine.step_lines(0.1)
    assert line.startswith('step: ') and 'float32 on cpu' in line

    def broken(*args):
        raise RuntimeError('no kernel image is available')

    monkeypatch.setattr(doctor_machine, '_train', broken)
    line, = doctor_machine.step_lines(0.1)
    assert line.startswith('ERROR') and 'no kernel image' in line
    assert not doctor._show([line]) and doctor._show(['note: x'])


def test_runs_where_nothing_of_the_stack_is_installed():
    """Not even torch: the report is what such an environment needs most."""
    blocked = ('torch', 'torchvision', 'numpy', 'scipy', 'mmengine', 'mmcv',
               'mmpretrain', 'mmdet', 'mmseg')
    code = ('import sys\n'
            f'for name in {blocked!r}: sys.modules[name] = None\n'
            'from mmeffmae import doctor\n'
            'doctor.installed_distributions = lambda: {}\n'
            'sys.exit(doctor.main())')
    done = subprocess.run([sys.executable, '-c', code], text=True,
                          capture_output=True, cwd=ROOT)
    assert done.returncode == 1, done.stderr
    assert 'needs torch: `pip install torch`' in done.stdout
