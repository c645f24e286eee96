#!/usr/bin/env bash
# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# usage: bash tools/build_docs.sh [sphinx-build arguments]
# Builds docs/ into docs/_build/html with the active environment, or .venv. A
# warning is an error, and so is a link to a page or file that is not there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ -z "${VIRTUAL_ENV:-}" ]; then
    [ -e .venv/bin/activate ] || {
        echo "No .venv: run 'bash tools/setup_env.sh' first." >&2
        exit 1
    }
    source .venv/bin/activate
fi
python -c 'import furo, myst_parser, sphinx' 2>/dev/null ||
    python -m pip install --constraint constraints.txt furo myst-parser sphinx
export MPLBACKEND=Agg
python -m sphinx -b html -W --keep-going "$@" docs docs/_build/html
echo "Open docs/_build/html/index.html"
