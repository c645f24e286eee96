# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Links of the repository's Markdown, made those of the site.

READMEs are included in pages and link to their neighbours. A link to a README
that is a page becomes one to the page; files become downloads; a folder, which
a site cannot show, its path. A link to nothing is an error.
"""
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / 'docs'
#: Pages that show the README of a folder, or another file.
PAGES = {
    **{f'configs/{name}': f'methods/{name}.md' for name in (
        'mae', 'emae', 'um_mae', 'pcae', 'clmae', 'dbp_mae', 'recommended')},
    **{f'configs/{name}': f'dense/{name}.md' for name in (
        'htcpp', 'mask_rcnn', 'upernet', 'gfl')},
    'benchmarks': 'benchmarks/index.md',
    'benchmarks/RESULTS.md': 'benchmarks/results.md',
    'benchmarks/throughput': 'benchmarks/throughput.md',
    'README.md': 'index.md',
    'docs': 'index.md',
}
_FENCE = re.compile(r'^(```|~~~).*?^\1', re.MULTILINE | re.DOTALL)
_LINK = re.compile(r'(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)')


class DeadLinkError(ValueError):
    """A link to a file that is not there."""


def links(text: str) -> Iterator[re.Match]:
    """Links and images outside fenced code that name no other host."""
    blank = _FENCE.sub(lambda match: re.sub(r'[^\n]', ' ', match[0]), text)
    for match in _LINK.finditer(blank):
        if not re.match(r'[a-z]+:|#', match['target']):
            yield match


def find(target: str, folder: Path) -> Path:
    """The file or folder that a link of a text in ``folder`` names.

    Raises:
        DeadLinkError: It does not exist, or lies outside the repository.
    """
    path = Path(os.path.normpath(folder / target.partition('#')[0]))
    if not path.exists() or not path.is_relative_to(ROOT):
        raise DeadLinkError(f'{folder.relative_to(ROOT)}: no file for {target}')
    return path


def rewrite(text: str, folder: Path, page: Path) -> str:
    """A text of ``folder`` with links that hold on ``page``.

    Raises:
        DeadLinkError: A link names nothing.
    """
    parts, end = [], 0
    for match in links(text):
        parts += [text[end:match.start()], _rewritten(match, folder, page)]
        end = match.end()
    return ''.join(parts) + text[end:]


def _rewritten(match: re.Match, folder: Path, page: Path) -> str:
    path = find(match['target'], folder)
    name = path.relative_to(ROOT).as_posix().removesuffix('/README.md')
    fragment = match['target'].partition('#')[2]
    if name in PAGES:
        path = DOCS / PAGES[name]
    elif path.is_dir():
        return match['text'] if name in match['text'] else (
            f'{match["text"]} (`{name}`)')
    relative = os.path.relpath(path, page.parent)
    return (f'{match["image"]}[{match["text"]}]({relative}'
            f'{"#" + fragment if fragment else ""})')


def _reporting(function: Callable, location: str) -> str | None:
    # Sphinx would turn an exception of a handler into a trace.
    from sphinx.util import logging
    try:
        return function()
    except DeadLinkError as error:
        logging.getLogger(__name__).warning(str(error), location=location)
        return None


def _on_source(app, docname: str, content: list[str]) -> None:
    page = Path(app.env.doc2path(docname))
    text = _reporting(lambda: rewrite(content[0], page.parent, page), docname)
    content[0] = content[0] if text is None else text


def _on_include(app, path: Path, parent: str, content: list[str]) -> None:
    source = (DOCS / path).resolve()
    page = Path(app.env.doc2path(app.env.docname))
    text = _reporting(
        lambda: rewrite(content[0], source.parent, page), app.env.docname)
    content[0] = content[0] if text is None else text


def setup(app) -> dict:
    """Register with Sphinx."""
    app.connect('source-read', _on_source)
    app.connect('include-read', _on_include)
    return dict(parallel_read_safe=True)
