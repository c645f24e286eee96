# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Sourced by dist_train.sh and dist_test.sh.
# launch TOOL NPROC ARGUMENTS: start NPROC processes of a tool with torchrun.
launch() {
    local tool=$1 nproc=$2
    shift 2
    local tools_dir
    tools_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
    if [ -z "${NNODES:-}" ] && [ "${SLURM_STEP_NUM_NODES:-1}" -gt 1 ]; then
        meet_by_slurm
    fi
    local nodes=(--standalone) # one machine, any free port
    if [ -n "${NNODES:-}${PORT:-}" ]; then
        nodes=(--nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}"
            --master_addr="${MASTER_ADDR:-127.0.0.1}"
            --master_port="${PORT:-29500}")
    fi
    # torchrun (its --signals-to-handle) passes these on; by itself it leaves out
    # SIGUSR1, which asks for a checkpoint and would kill it alone.
    local signals=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1
    # One thread a process unless told otherwise, as torchrun has it.
    PET_SIGNALS_TO_HANDLE=${PET_SIGNALS_TO_HANDLE:-$signals} \
    OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} \
    PYTHONPATH="$(dirname "$tools_dir")${PYTHONPATH:+:$PYTHONPATH}" \
    exec python -m torch.distributed.run "${nodes[@]}" \
        --nproc_per_node="$nproc" \
        "$tools_dir/$tool" "$@" --launcher pytorch
}

# The rendezvous of the nodes of a Slurm step that runs one task on each.
meet_by_slurm() {
    local first
    first=$(scontrol show hostnames "$SLURM_STEP_NODELIST" | head -n 1)
    NNODES=$SLURM_STEP_NUM_NODES
    NODE_RANK=$SLURM_NODEID
    # The node's address, since not every node's name resolves.
    MASTER_ADDR=${MASTER_ADDR:-$(scontrol show node "$first" |
        sed -nE 's/.*NodeAddr=([^ ]+).*/\1/p')}
    PORT=${PORT:-$((20000 + SLURM_JOB_ID % 10000))} # jobs of a node keep apart
}
