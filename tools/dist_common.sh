# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Sourced by dist_train.sh and dist_test.sh.
# launch TOOL NPROC ARGUMENTS: start NPROC processes of a tool with torchrun.
launch() {
    local tool=$1 nproc=$2
    shift 2
    local tools_dir
    tools_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
    # Port 0 lets a single machine pick a free one.
    local port=${PORT:-0}
    if [ "${NNODES:-1}" != 1 ]; then
        port=${PORT:-29500}
    fi
    PYTHONPATH="$(dirname "$tools_dir")${PYTHONPATH:+:$PYTHONPATH}" \
    exec python -m torch.distributed.run \
        --nnodes="${NNODES:-1}" \
        --node_rank="${NODE_RANK:-0}" \
        --master_addr="${MASTER_ADDR:-127.0.0.1}" \
        --master_port="$port" \
        --nproc_per_node="$nproc" \
        "$tools_dir/$tool" "$@" --launcher pytorch
}
