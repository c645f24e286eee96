# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Builds the package with its ``.mim`` folder; metadata is in pyproject.toml.

``mim train mmeffmae CONFIG`` looks for ``.mim/configs`` and ``.mim/tools``
inside the installed package. A wheel carries copies of them, an editable
install links to the checkout.
"""
import os
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

ROOT = Path(__file__).resolve().parent
PACKAGE = 'mmeffmae'
MIM_PARTS = ('configs', 'tools', 'model-index.yml')


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _mim_files() -> list[Path]:
    """Files below the parts, relative to the root."""
    found = []
    for part in MIM_PARTS:
        top = ROOT / part
        files = sorted(top.rglob('*')) if top.is_dir() else [top]
        found += [
            file.relative_to(ROOT) for file in files if file.is_file()
            and '__pycache__' not in file.parts and file.suffix != '.pyc'
        ]
    return found


class BuildPy(build_py):
    """Adds ``.mim``: copies for a wheel, links for an editable install."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            self._link()
        else:
            self._copy()

    def _copy(self) -> None:
        target = Path(self.build_lib, PACKAGE, '.mim')
        _remove(target)
        for file in _mim_files():
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            self.copy_file(str(ROOT / file), str(target / file))

    def _link(self) -> None:
        target = ROOT / PACKAGE / '.mim'
        _remove(target)
        target.mkdir()
        for part in MIM_PARTS:
            os.symlink(Path('..', '..', part), target / part)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        outputs = super().get_outputs(include_bytecode)
        if self.editable_mode:
            return outputs
        target = Path(self.build_lib, PACKAGE, '.mim')
        return outputs + [str(target / file) for file in _mim_files()]


class EditableWheel(editable_wheel):
    """Lets openmim find the checkout of an editable install.

    openmim (0.3.9) looks for ``site-packages/mmeffmae``, which an editable
    install does not have, and then joins the site-packages folder and the
    first line of ``top_level.txt``. An absolute path there wins the join.
    """

    def _ensure_dist_info(self) -> None:
        super()._ensure_dist_info()
        top_level = Path(self.dist_info_dir, 'top_level.txt')
        top_level.write_text(f'{ROOT / PACKAGE}\n{PACKAGE}\n')


setup(cmdclass={'build_py': BuildPy, 'editable_wheel': EditableWheel})
