#!/usr/bin/env bash
# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Train in a batch job that goes on after its time limit. From the repository:
#   sbatch -p PARTITION --nodes=2 --gres=gpu:8 --cpus-per-task=40 --time=24:00:00 \
#       tools/slurm_batch.sh CONFIG PROCESSES_PER_NODE [arguments of tools/train.py]
# Two minutes before the limit the run writes a checkpoint and stops, and the job
# queues again and resumes. It does so, too, when the partition pre-empts it.
# Options of sbatch on the command line win over these:
#SBATCH --job-name=mmeffmae
#SBATCH --ntasks-per-node=1
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -uo pipefail
if [ $# -lt 2 ] || [ -z "${SLURM_JOB_ID:-}" ]; then
    echo "usage: sbatch [options of sbatch] $0 CONFIG PROCESSES_PER_NODE [arguments of tools/train.py]" >&2
    exit 2
fi
# Slurm runs a copy of this file.
cd "${SLURM_SUBMIT_DIR:-.}" || exit 2
if [ ! -f tools/dist_train.sh ]; then
    echo "no tools/dist_train.sh in $PWD: submit from the repository root" >&2
    exit 2
fi

asked=
stop() { # srun passes the signal on to the tasks
    asked=1
    kill -USR1 "$step"
}
trap stop USR1

srun --kill-on-bad-exit=1 bash tools/dist_train.sh "$1" "$2" --resume "${@:3}" &
step=$!
code=0
while kill -0 "$step" 2>/dev/null; do
    code=0
    wait "$step" || code=$? # a signal ends the wait, not the step
done
if [ -n "$asked" ] && [ "$code" -ne 0 ]; then
    echo "Job $SLURM_JOB_ID stopped before its time limit and queues again."
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
