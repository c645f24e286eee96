# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""What the site is made of: links, included texts, figures, snippets."""
import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / 'docs'
#: Options that train.py and test.py share.
LAUNCH = ROOT / 'mmeffmae/engine/launch.py'
PAGES = sorted(path for path in DOCS.rglob('*.md') if '_build' not in path.parts)
READMES = [
    ROOT / 'README.md', *sorted(ROOT.glob('configs/*/README.md')),
    *sorted(ROOT.glob('benchmarks/**/*.md'))]


def module(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    sys.modules[path.stem] = found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope='module')
def site():
    return module(DOCS / '_ext/repository_links.py')


def name(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize('path', [*PAGES, *READMES], ids=name)
def test_no_link_is_dead(path, site):
    for match in site.links(path.read_text()):
        if '_generated' not in match['target']:
            site.find(match['target'], path.parent)


@pytest.mark.parametrize('path', PAGES, ids=name)
def test_included_texts_are_there(path):
    for directive in re.finditer(
            r'```\{(?:literal)?include\} (\S+)\n((?::.*\n)*)```', path.read_text()):
        text = (path.parent / directive[1]).resolve().read_text()
        for mark in re.findall(r'^:(?:start-after|end-before): "(.*)"$',
                               directive[2], re.MULTILINE):
            assert mark in text, f'{directive[1]} lacks {mark}'


def commands(text):
    """Lines of the bash blocks, continued ones as one."""
    for block in re.findall(r'```bash\n(.*?)```', text, re.DOTALL):
        for line in block.replace('\\\n', ' ').splitlines():
            yield line.split(' #')[0]


@pytest.mark.parametrize('path', [*PAGES, *READMES], ids=name)
def test_commands_name_what_exists(path):
    """Tools, their options, and configs; what is called ``mine`` is the reader's."""
    for line in commands(path.read_text()):
        for config in re.findall(r'configs/[\w/.-]+\.py\b', line):
            ours = not re.search(r'/mine(/|\.py$)', config)
            assert not ours or (ROOT / config).is_file(), line
        for tool in re.findall(r'\btools/[\w/]+\.(?:py|sh)\b', line):
            assert (ROOT / tool).is_file(), line
            code = (ROOT / tool).read_text() + LAUNCH.read_text()
            if tool.endswith('.sh'):  # hands options on
                code += (ROOT / 'tools/train.py').read_text() + (
                    ROOT / 'tools/test.py').read_text()
            given = line.split(tool, 1)[1]  # what stands before is the launcher's
            for option in re.findall(r' (--[a-z][\w-]*)', given):
                assert f"'{option}'" in code or f'{option})' in code or (
                    f' {option}' in code), f'{tool} has no {option}: {line}'


@pytest.mark.parametrize(('page', 'begin', 'end'), [
    ('README.md', '## Measured', '<!-- measured -->'),
    ('docs/choose_a_method.md', '## What was measured', '## What was not'),
    ('configs/recommended/README.md', '**How far this goes.**', '## How to use it'),
])
def test_every_figure_occurs_in_the_results(page, begin, end):
    """Means with their spread as a whole; no proof, but it finds what went stale."""
    measured = (ROOT / page).read_text().split(begin)[1].split(end)[0]
    figure = re.compile(r'\d+\.\d+(?: (?:±|to) \d+\.\d+)?')
    figures = figure.findall(re.sub(r'[*+]', '', measured))
    results = (ROOT / 'benchmarks/RESULTS.md').read_text().replace('+', '')
    known = {*figure.findall(results), *re.findall(r'\d+\.\d+', results)}
    assert len(figures) > 20
    assert sorted(set(figures) - known) == []


def test_links_become_those_of_the_site(site):
    folder, page = ROOT / 'configs/emae', DOCS / 'methods/emae.md'
    text = site.rewrite(
        '[a](../mae) [b](emae_quick.py) [c](../um_mae/benchmarks) [d](https://x.y) '
        '[e](../um_mae/README.md#models)\n```\n[f](nothing)\n```\n', folder, page)
    assert text == (
        '[a](mae.md) [b](../../configs/emae/emae_quick.py) '
        'c (`configs/um_mae/benchmarks`) [d](https://x.y) [e](um_mae.md#models)\n'
        '```\n[f](nothing)\n```\n')
    with pytest.raises(site.DeadLinkError, match='configs/emae: no file for gone.md'):
        site.rewrite('[x](gone.md)', folder, page)


def test_every_page_is_in_the_contents():
    listed = re.findall(r'^[\w/]+$', (DOCS / 'index.md').read_text(), re.MULTILINE)
    contents = {page.relative_to(DOCS).with_suffix('').as_posix() for page in PAGES}
    assert contents - {'index'} <= {*listed, *(f'api/{n}' for n in re.findall(
        r'^[\w]+$', (DOCS / 'api/index.md').read_text(), re.MULTILINE))}


def test_figures_are_drawn(tmp_path):
    figures = module(DOCS / 'figures.py')
    written = {path.stem for path in figures.draw_all(tmp_path)}
    shown = {target for path in PAGES for target in re.findall(
        r'_generated/(\w+)\.png', path.read_text())}
    assert written == shown


@pytest.mark.parametrize('path', [
    path for path in PAGES if '<!-- run -->' in path.read_text()], ids=name)
def test_marked_snippets_run(path, tmp_path, monkeypatch):
    """Python blocks below the comment ``<!-- run -->``, in one namespace."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(
        r'<!-- run -->\n```python\n(.*?)```', path.read_text(), re.DOTALL)
    namespace: dict = {}
    for block in blocks:
        exec(block, namespace)
