# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""What the pages under docs say holds of the files that they speak of."""
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / 'docs').glob('*.md'))


def test_every_figure_of_the_decision_page_is_a_committed_result():
    page = (ROOT / 'docs/choose_a_method.md').read_text()
    measured = page.split('## What was measured')[1].split('## What was not')[0]
    results = (ROOT / 'benchmarks/RESULTS.md').read_text()
    figures = re.findall(r'\d+\.\d+(?: ± \d+\.\d+)?', measured)
    assert len(figures) > 20
    assert [one for one in figures if one not in results] == []


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_links_tools_and_configs_are_there(page):
    text = page.read_text()
    links = [page.parent / link for link in re.findall(r'\]\(([^)#:]+)\)', text)]
    named = [ROOT / path for path in re.findall(r'\b((?:tools|configs)/[\w./-]+\.\w+)',
                                                text)]
    assert links and named
    assert [str(path) for path in links + named if not path.exists()] == []


def test_options_in_the_how_to_exist():
    text = (ROOT / 'docs/your_own_images.md').read_text()
    commands = re.findall(r'python tools/(\w+)\.py((?:[^\n`]|\\\n)*)', text)
    assert len(commands) > 4
    for tool, rest in commands:
        source = (ROOT / f'tools/{tool}.py').read_text()
        source += (ROOT / 'mmeffmae/engine/launch.py').read_text()
        for option in re.findall(r'--[a-z-]+', rest):
            assert f"'{option}'" in source, (tool, option)
