# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Notebooks as pages: their Markdown and code, without outputs."""
import json

from myst_parser.parsers.sphinx_ import MystParser


def to_markdown(notebook: str) -> str:
    """The cells of a notebook as one Markdown text."""
    texts = []
    for cell in json.loads(notebook)['cells']:
        text = ''.join(cell['source'])
        texts.append(
            f'```python\n{text}\n```' if cell['cell_type'] == 'code' else text)
    return '\n\n'.join(texts) + '\n'


class NotebookParser(MystParser):
    """Reads ``.ipynb`` as Markdown."""

    supported = ('notebook', )

    def parse(self, inputstring: str, document) -> None:
        super().parse(to_markdown(inputstring), document)


def setup(app) -> dict:
    """Register with Sphinx."""
    app.add_source_suffix('.ipynb', 'notebook')
    app.add_source_parser(NotebookParser)
    return dict(parallel_read_safe=True)
