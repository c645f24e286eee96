#!/usr/bin/env bash
# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# usage: bash tools/lint.sh [--fix]
# Style and likely bugs (ruff, all files), then types (mypy, the package).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ -x .venv/bin/ruff ] || {
    echo "No .venv with the linters: run 'bash tools/setup_env.sh' first." >&2
    exit 1
}
status=0
.venv/bin/ruff check "$@" . || status=1
.venv/bin/mypy || status=1
exit "$status"
