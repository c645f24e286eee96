# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Says what the installed packages can do: ``python -m mmeffmae.doctor``.

OpenMMLab comes as two families of distributions, the maintained ``onedl-*``
ones and the upstream ones, that install the same import folders. pip does not
notice when both are there; whichever came last has overwritten the other. This
module refuses that, warns about versions that were not tested, says what the
machine, its data and its precisions are, trains for two seconds, and exits with
1 where pre-training cannot run. It works with any part of the stack installed.
"""
from __future__ import annotations

import importlib
import importlib.metadata as metadata
import platform
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .doctor_machine import machine_lines, step_lines

#: The Python that the tests ran with.
TESTED_PYTHON = '3.11'


@dataclass(frozen=True)
class Component:
    """One import folder and the distributions that may provide it.

    ``tested`` maps each distribution to the version that the tests ran with,
    or to None where none did. The first distribution is the recommended one.
    """

    folder: str
    tested: Mapping[str, str | None]


COMPONENTS = (
    Component('torch', {'torch': '2.11.0'}),
    Component('torchvision', {'torchvision': '0.26.0'}),
    Component('numpy', {'numpy': '2.2.6'}),
    Component('scipy', {'scipy': '1.17.1'}),
    Component('mmengine', {
        'onedl-mmengine': '0.10.12', 'mmengine': None, 'mmengine-lite': None}),
    Component('mmcv', {
        'onedl-mmcv': '2.3.6', 'mmcv': None, 'mmcv-full': None,
        'mmcv-lite': '2.2.0'}),
    Component('mmpretrain', {'onedl-mmpretrain': '1.3.6', 'mmpretrain': None}),
    Component('mmdet', {'onedl-mmdetection': '3.5.1', 'mmdet': None}),
    Component('mmseg', {
        'onedl-mmsegmentation': '1.4.2', 'mmsegmentation': None}),
)

_PRETRAINING = ('torch', 'torchvision', 'mmengine', 'mmcv', 'mmpretrain')
#: What each task imports; 'mmcv._ext' stands for mmcv's compiled operators.
TASKS = {
    'pre-training': _PRETRAINING,
    'classification': _PRETRAINING,
    'detection': (*_PRETRAINING, 'mmcv._ext', 'mmdet'),
    'segmentation': (*_PRETRAINING, 'mmcv._ext', 'mmseg'),
}


@dataclass
class Row:
    """One line of the table."""

    folder: str
    distribution: str
    version: str
    tested: str
    state: str


@dataclass
class Diagnosis:
    """What :func:`diagnose` found; ``tasks`` maps a task to what it lacks."""

    rows: list[Row] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    tasks: dict[str, list[str]] = field(default_factory=dict)

    @property
    def healthy(self) -> bool:
        """Whether nothing clashes and pre-training can run."""
        return not self.errors and not self.tasks['pre-training']


def installed_distributions() -> dict[str, str]:
    """Versions of the installed distributions by normalised name."""
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        name = distribution.metadata['Name']
        if name:
            key = re.sub(r'[-_.]+', '-', name).lower()
            found.setdefault(key, distribution.version)
    return found


def try_imports(names: Iterable[str]) -> dict[str, str]:
    """Imports each module and returns the reasons of those that failed.

    A native library that does not load raises ``ImportError`` or ``OSError``,
    OpenMMLab's version limits raise ``AssertionError``.
    """
    failures = {}
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # any reason is worth reporting
            failures[name] = f'{type(error).__name__}: {error}'.splitlines()[0]
    return failures


def diagnose(
    installed: Mapping[str, str],
    failures: Mapping[str, str],
    python: str = platform.python_version(),
) -> Diagnosis:
    """Judges an environment.

    Args:
        installed: Version of every distribution by normalised name.
        failures: Modules that cannot be imported, with the reason, as
            :func:`try_imports` returns them.
        python: Version of the interpreter.
    """
    found = Diagnosis()
    tested = python.split('.')[:2] == TESTED_PYTHON.split('.')
    found.rows.append(Row(
        'python', '', python, TESTED_PYTHON, 'tested' if tested else 'untested'))
    if not tested:
        found.warnings.append(
            f'Python {python} was not tested, {TESTED_PYTHON} was')
    for component in COMPONENTS:
        _judge(component, installed, failures, found)
    families = {
        'onedl' if name.startswith('onedl-') else 'upstream'
        for component in COMPONENTS for name in component.tested
        if name in installed and component.folder.startswith('mm')
        and name != 'mmcv-lite'
    }
    if len(families) > 1:
        found.warnings.append(
            'packages of both families (onedl-* and upstream) are installed: '
            'this mixture was not tested, choose one')
    for task, needs in TASKS.items():
        found.tasks[task] = [
            lack for need in needs
            if (lack := _lack(need, installed, failures)) is not None
        ]
    return found


def _owners(component: Component, installed: Mapping[str, str]) -> list[str]:
    return [name for name in component.tested if name in installed]


def _judge(
    component: Component,
    installed: Mapping[str, str],
    failures: Mapping[str, str],
    found: Diagnosis,
) -> None:
    folder, owners = component.folder, _owners(component, installed)
    best = next(iter(component.tested))
    if not owners:
        found.rows.append(
            Row(folder, best, '-', component.tested[best] or '-', 'missing'))
        return
    for name in owners:
        version, tested = installed[name], component.tested[name]
        state = 'tested'
        if version.split('+')[0] != tested:
            state = 'untested'
            found.warnings.append(
                f'{name} {version} was not tested, '
                + (f'{name} {tested} was' if tested else f'{best} was'))
        if len(owners) > 1:
            state = 'CLASH'
        elif folder in failures:
            state = 'BROKEN'
        found.rows.append(Row(folder, name, version, tested or '-', state))
    if len(owners) > 1:
        found.errors.append(
            f'{" and ".join(owners)} own the same folder {folder}/ and have '
            f'overwritten each other: run `pip uninstall {" ".join(owners)}`, '
            'then install one of them again')


def _recommended(component: Component, installed: Mapping[str, str]) -> str:
    """The distribution of the family that is there, else the tested one."""
    names = list(component.tested)
    if 'mmengine' in installed and 'onedl-mmengine' not in installed:
        names.sort(key=lambda name: name.startswith('onedl-'))
    return names[0]


def _lack(
    need: str, installed: Mapping[str, str], failures: Mapping[str, str]
) -> str | None:
    """What is wrong with a module that a task needs, or None."""
    if need == 'mmcv._ext':
        if need not in failures:
            return None
        if 'mmcv-lite' in installed:
            return ("mmcv's compiled operators: mmcv-lite has none, run "
                    '`bash tools/setup_env.sh`')
        return (f"mmcv's compiled operators ({failures[need]}): build mmcv for "
                'the installed torch, `bash tools/setup_env.sh` does')
    component = next(part for part in COMPONENTS if part.folder == need)
    if not _owners(component, installed):
        return f'{need}: `pip install {_recommended(component, installed)}`'
    if need in failures:
        hint = ''
        if 'libGL' in failures[need] or 'libgthread' in failures[need]:
            hint = ' (Debian, Ubuntu: apt-get install libgl1 libglib2.0-0)'
        return f'{need} cannot be imported: {failures[need]}{hint}'
    return None


def report(found: Diagnosis) -> str:
    """The diagnosis as text: a table, then warnings, errors and tasks."""
    head = Row('folder', 'distribution', 'version', 'tested', 'state')
    cells = [
        (row.folder, row.distribution, row.version, row.tested, row.state)
        for row in (head, *found.rows)
    ]
    widths = [max(len(cell[column]) for cell in cells) for column in range(5)]
    lines = [
        '  '.join(text.ljust(width) for text, width in zip(row, widths)).rstrip()
        for row in cells
    ]
    lines += [f'warning: {text}' for text in found.warnings]
    lines += [f'ERROR: {text}' for text in found.errors]
    for task, lacks in found.tasks.items():
        lines.append(f'{task}: ' + ('yes' if not lacks else 'no'))
        lines += [f'  needs {lack}' for lack in lacks]
    return '\n'.join(lines)


def main() -> int:
    """Prints the report; 0 where pre-training can run, 1 where it cannot."""
    installed = installed_distributions()
    folders = [
        part.folder for part in COMPONENTS if _owners(part, installed)]
    failures = try_imports([*folders, 'mmcv._ext'])
    found = diagnose(installed, failures)
    print(report(found))
    healthy = found.healthy
    if 'torch' in folders and 'torch' not in failures:
        healthy &= _show(machine_lines(installed))
        if found.healthy:
            healthy &= _show(step_lines())
    return 0 if healthy else 1


def _show(lines: Iterable[str]) -> bool:
    """Prints lines; whether none is an error."""
    healthy = True
    for line in lines:
        print(line, flush=True)
        healthy &= not line.startswith('ERROR')
    return healthy


if __name__ == '__main__':
    sys.exit(main())
