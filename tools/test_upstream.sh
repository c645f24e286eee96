#!/usr/bin/env bash
# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# usage: bash tools/test_upstream.sh [pytest arguments]
# Pre-training and classification on upstream OpenMMLab (mmengine 0.10.7,
# mmcv-lite 2.1.0, mmpretrain 1.2.0), in an environment of its own, since the
# maintained onedl packages own the same folders. Every other version is that
# of constraints.txt. MMEFFMAE_UPSTREAM_VENV: the environment's folder (default
# .cache/upstream-venv, about 6 GB; a second run installs nothing).
set -euo pipefail

STEP_TOTAL=8
# shellcheck source=tools/steps.sh
source "$(dirname "${BASH_SOURCE[0]}")/steps.sh"
cd "$ROOT"
STEP_LOGS=$ROOT/.cache/logs/upstream
VENV=${MMEFFMAE_UPSTREAM_VENV:-$ROOT/.cache/upstream-venv}
OUT=$ROOT/.cache/upstream
UPSTREAM=(mmengine==0.10.7 mmcv-lite==2.1.0 mmpretrain==1.2.0)
READ_LOG="read the error at the end of the log"
#: What pre-training and classification rest on; dense tasks need mmcv's ops.
TESTS=(
    tests/test_compat.py
    tests/checkpoint/test_loading.py
    tests/checkpoint/test_load_report_hook.py
    tests/checkpoint/test_export.py
    tests/engine/test_resume.py
    tests/engine/test_launch.py
    tests/engine/hooks/test_checkpoint.py
    tests/models/test_masked_autoencoder.py
    tests/configs/test_classification_configs.py
)

install() {
    [ -x "$VENV/bin/python" ] || "${MMEFFMAE_PYTHON:-python3}" -m venv "$VENV"
    local constraints=$VENV/constraints.txt
    grep -vE '^(mmcv-lite|onedl-)' constraints.txt >"$constraints"
    printf '%s\n' "${UPSTREAM[@]}" >>"$constraints"
    "$VENV/bin/python" -m pip install --disable-pip-version-check \
        --constraint "$constraints" pip setuptools wheel
    "$VENV/bin/python" -m pip install --disable-pip-version-check \
        --constraint "$constraints" torch torchvision "${UPSTREAM[@]}" pytest safetensors timm
}

key() {
    { cat constraints.txt; echo "${UPSTREAM[@]}"; } | cksum
}

if [ "$(cat "$VENV/mmeffmae-upstream" 2>/dev/null)" = "$(key)" ]; then
    skip_step "Environment: $VENV is complete" 1
else
    step "Environment: ${UPSTREAM[*]}" \
        "check the network and the free disk space, then run this script again" install
    key >"$VENV/mmeffmae-upstream"
fi
export PATH=$VENV/bin:$PATH PYTHONPATH=$ROOT OMP_NUM_THREADS=1 MPLBACKEND=Agg
rm -rf "$OUT"

FEW=(train_dataloader.num_workers=0 train_dataloader.persistent_workers=False
    train_dataloader.dataset.indices=64)
step "Doctor" "$READ_LOG" python -m mmeffmae.doctor
step "Mini scenes" "$READ_LOG" python tools/make_mini_scenes.py --out data/mini
step "Pre-training: one epoch of two iterations" "$READ_LOG" \
    python tools/train.py configs/mae/mae_quick.py --work-dir "$OUT/pretrain" \
    --cfg-options train_cfg.max_epochs=1 "${FEW[@]}"
step "Resume: a second epoch" "$READ_LOG" \
    python tools/train.py configs/mae/mae_quick.py --work-dir "$OUT/pretrain" --resume \
    --cfg-options train_cfg.max_epochs=2 "${FEW[@]}"
grep -q 'resumed epoch: 1, iter: 2' "$STEP_LOGS"/5-resume.log ||
    die "The second run did not resume: see $STEP_LOGS/5-resume.log"
step "Export" "$READ_LOG" python tools/export_backbone.py \
    "$OUT/pretrain/epoch_2.pth" --out "$OUT/backbone.pth"
step "Classification: two iterations of fine-tuning" "$READ_LOG" \
    python tools/benchmarks/probe.py configs/mae/mae_quick.py "$OUT/backbone.pth" \
    --probes finetune --finetune views=64 batch_size=32
step "Tests" "$READ_LOG" python -m pytest -q -p no:cacheprovider -m 'not long' \
    "${TESTS[@]}" "$@"
tail -n 1 "$STEP_LOGS/8-tests.log"
