#!/usr/bin/env bash
# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Test with several processes: tools/dist_test.sh CONFIG CHECKPOINT NPROC [ARGUMENTS]
# Several machines: set NNODES, NODE_RANK, MASTER_ADDR and PORT on each.
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "usage: $0 CONFIG CHECKPOINT NPROC [arguments of tools/test.py]" >&2
    exit 2
fi
. "$(dirname "$0")/dist_common.sh"
launch test.py "$3" "$1" "$2" "${@:4}"
