#!/usr/bin/env bash
# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Train with several processes: tools/dist_train.sh CONFIG NPROC [ARGUMENTS]
# Several machines: set NNODES, NODE_RANK, MASTER_ADDR and PORT on each.
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: $0 CONFIG NPROC [arguments of tools/train.py]" >&2
    exit 2
fi
. "$(dirname "$0")/dist_common.sh"
launch train.py "$2" "$1" "${@:3}"
