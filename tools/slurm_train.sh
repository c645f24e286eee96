#!/usr/bin/env bash
# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Train under Slurm: tools/slurm_train.sh PARTITION JOB_NAME CONFIG [WORK_DIR] [ARGUMENTS]
# GPUS (8), GPUS_PER_NODE (8, or all of fewer), CPUS_PER_TASK (5) and SRUN_ARGS may be set.
# SRUN_ARGS="--signal=USR1@120" writes a checkpoint 120 s before the time limit.
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "usage: $0 PARTITION JOB_NAME CONFIG [WORK_DIR] [arguments of tools/train.py]" >&2
    exit 2
fi
partition=$1 job_name=$2 config=$3
shift 3
work_dir=work_dirs/$(basename "$config" .py)
if [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; then
    work_dir=$1
    shift
fi
gpus=${GPUS:-8}
gpus_per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
tools_dir=$(cd "$(dirname "$0")" && pwd)

PYTHONPATH="$(dirname "$tools_dir")${PYTHONPATH:+:$PYTHONPATH}" \
exec srun -p "$partition" \
    --job-name="$job_name" \
    --gres=gpu:"$gpus_per_node" \
    --ntasks="$gpus" \
    --ntasks-per-node="$gpus_per_node" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 \
    ${SRUN_ARGS:-} \
    python -u "$tools_dir/train.py" "$config" --work-dir "$work_dir" \
    --launcher slurm "$@"
