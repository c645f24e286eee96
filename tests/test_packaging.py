# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""What a wheel, an editable install and a source archive contain."""
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SOURCES = (
    'mmeffmae', 'configs', 'tools', 'setup.py', 'pyproject.toml', 'MANIFEST.in',
    'LICENSE', 'model-index.yml', 'constraints.txt', 'README.md', 'CHANGELOG.md')
#: What openmim 0.3.9 does to find a package (``mim.utils.get_installed_path``).
OPENMIM_LOOKUP = """
import os.path as osp, pkg_resources
package = pkg_resources.get_distribution('mmeffmae')
path = osp.join(package.location, 'mmeffmae')
if not osp.exists(path):
    name = package.get_metadata('top_level.txt').split('\\n')[0]
    path = osp.join(package.location, name)
print(path)
"""


def files_below(*parts):
    """Shipped files of the checkout, as ``configs/mae/metafile.yml``."""
    found = set()
    for part in parts:
        top = ROOT / part
        for file in [top] if top.is_file() else top.rglob('*'):
            if file.is_file() and '__pycache__' not in file.parts:
                found.add(file.relative_to(ROOT).as_posix())
    return found


def run(command, cwd, **env):
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **env})
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope='module')
def checkout(tmp_path_factory):
    """A copy without build products, since building writes beside setup.py."""
    target = tmp_path_factory.mktemp('checkout')
    skip = shutil.ignore_patterns('__pycache__', '.mim')
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=skip)
        else:
            shutil.copy2(ROOT / name, target / name)
    return target


@pytest.fixture(scope='module')
def mim_files():
    return files_below('configs', 'tools', 'model-index.yml')


def test_wheel_holds_package_and_mim_folder(checkout, mim_files, tmp_path):
    run([sys.executable, '-m', 'pip', 'wheel', '--no-build-isolation', '--no-deps',
         '--no-index', '--wheel-dir', tmp_path, checkout], cwd=tmp_path)
    wheel, = tmp_path.glob('*.whl')
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        modes = {info.filename: info.external_attr >> 16
                 for info in archive.infolist()}
        metadata_name, = (name for name in names if name.endswith('/METADATA'))
        metadata = archive.read(metadata_name).decode()
    assert {f'mmeffmae/.mim/{name}' for name in mim_files} <= names
    modules = {name for name in files_below('mmeffmae')
               if name.endswith('.py') and '.mim' not in name}
    assert modules <= names
    assert not [name for name in names if name.startswith(('tests', 'configs'))]
    scripts = [name for name in mim_files if name.endswith('.sh')]
    assert all(modes[f'mmeffmae/.mim/{name}'] & 0o100 for name in scripts
               if os.access(ROOT / name, os.X_OK))
    required = [line for line in metadata.splitlines()
                if line.startswith('Requires-Dist') and 'extra ==' not in line]
    assert not [line for line in required if 'mm' in line or 'onedl' in line]
    for extra in ('onedl', 'upstream', 'det', 'seg', 'dev'):
        assert f'Provides-Extra: {extra}\n' in metadata


def test_editable_install_links_mim_to_the_checkout(checkout, mim_files, tmp_path):
    run([sys.executable, '-c',
         'from setuptools import build_meta; import sys;'
         'build_meta.build_editable(sys.argv[1])', tmp_path], cwd=checkout)
    wheel, = tmp_path.glob('*.whl')
    site = tmp_path / 'site'
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    package = checkout / 'mmeffmae'
    for name in mim_files:
        assert (package / '.mim' / name).resolve() == (checkout / name).resolve()
    # The site folder stands in for site-packages: nothing of the checkout is on
    # the path beside it.
    found = run([sys.executable, '-W', 'ignore', '-c', OPENMIM_LOOKUP],
                cwd=tmp_path, PYTHONPATH=str(site))
    assert Path(found.strip()).resolve() == package.resolve()


def test_source_archive_can_be_built_again(checkout, mim_files, tmp_path):
    run([sys.executable, '-c',
         'from setuptools import build_meta; import sys;'
         'build_meta.build_sdist(sys.argv[1])', tmp_path], cwd=checkout)
    archive, = tmp_path.glob('*.tar.gz')
    with tarfile.open(archive) as tar:
        names = {name.partition('/')[2] for name in tar.getnames()}
    assert mim_files | {'setup.py', 'constraints.txt', 'LICENSE'} <= names
    assert not [name for name in names if '.mim' in name]


def metafiles():
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    return index['Import']


def test_model_index_lists_every_metafile():
    on_disk = {file.relative_to(ROOT).as_posix()
               for file in (ROOT / 'configs').rglob('metafile.yml')}
    assert set(metafiles()) == on_disk


def test_every_config_is_in_the_index_with_its_size():
    """For a new config, add an entry to the metafile.yml of its folder."""
    listed = {}
    for metafile in metafiles():
        for model in yaml.safe_load((ROOT / metafile).read_text())['Models']:
            assert model['Metadata']['Parameters'] > 0, model['Name']
            assert model['Metadata']['Training Data'], model['Name']
            listed[model['Config']] = model['Name']
    files = (ROOT / 'configs').rglob('*.py')
    leaves = {file.relative_to(ROOT).as_posix() for file in files
              if '_base_' not in file.parts}
    assert set(listed) == leaves
    assert all(Path(config).stem == name for config, name in listed.items())


def test_mmpretrain_lists_our_models():
    code = ('import mmpretrain; mmpretrain.list_models();'
            'from mmeffmae.model_hub import register_models;'
            'names = register_models(); register_models();'
            'assert set(n.lower() for n in names) <= set(mmpretrain.list_models());'
            'model = mmpretrain.get_model("mmeffmae/um_mae_quick");'
            'print(len(names), type(model).__name__)')
    said = run([sys.executable, '-W', 'ignore', '-c', code], cwd=ROOT,
               PYTHONPATH=str(ROOT))
    assert said.strip().endswith(' MaskedAutoencoder')


@pytest.mark.parametrize('metafile', metafiles())
def test_metafile_names_existing_configs_once(metafile):
    content = yaml.safe_load((ROOT / metafile).read_text())
    models = content['Models']
    names = [model['Name'] for model in models]
    assert len(set(names)) == len(names)
    collections = {entry['Name'] for entry in content['Collections']}
    for model in models:
        assert (ROOT / model['Config']).is_file(), model['Name']
        assert model['In Collection'] in collections, model['Name']


def test_config_names_are_unique_so_that_mim_finds_one_of_each():
    leaves = [file.name for file in (ROOT / 'configs').rglob('*.py')
              if '_base_' not in file.parts]
    assert len(set(leaves)) == len(leaves)


@pytest.mark.parametrize('script', sorted(
    file.relative_to(ROOT).as_posix() for file in (ROOT / 'tools').rglob('*.sh')))
def test_shell_scripts_parse(script):
    run(['bash', '-n', script], cwd=ROOT)
