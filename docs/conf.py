# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Sphinx configuration; tools/build_docs.sh builds the site."""
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# The pages describe this checkout, whichever one is installed.
sys.path[:0] = [str(ROOT), str(ROOT / 'docs'), str(ROOT / 'docs' / '_ext')]

from mmeffmae import __version__  # noqa: E402

project = 'mmeffmae'
author = 'mmeffmae developers'
copyright = author
version = release = __version__

extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.mathjax',
    'sphinx.ext.napoleon',
    'drawn_figures',
    'notebook_pages',
    'repository_links',
]
exclude_patterns = ['_build', '_ext']
html_theme = 'furo'
html_title = f'mmeffmae {version}'

myst_enable_extensions = ['dollarmath']
myst_heading_anchors = 3

autodoc_member_order = 'bysource'
autodoc_typehints = 'none'  # docstrings say shapes and types
autodoc_default_options = {'show-inheritance': True}
napoleon_use_ivar = True
