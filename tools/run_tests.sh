#!/usr/bin/env bash
# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# usage: bash tools/run_tests.sh [--all] [pytest arguments]
# Set-up, doctor, linters, then the test suite; --all adds the tests marked long.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

selection=(-m 'not long')
if [ "${1:-}" = --all ]; then
    selection=()
    shift
fi

bash tools/setup_env.sh
source .venv/bin/activate
# Two threads a worker on busy cores are several times slower than one.
export OMP_NUM_THREADS=1 MPLBACKEND=Agg
python -m mmeffmae.doctor

lint=0
bash tools/lint.sh || lint=$?
[ "$lint" -eq 0 ] || echo "The linters found faults (above): this run fails whatever the tests say."

tests=0
python -m pytest -n 2 --durations=15 ${selection[@]+"${selection[@]}"} "$@" || tests=$?
[ "$tests" -ne 0 ] || tests=$lint
exit "$tests"
