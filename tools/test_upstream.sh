#!/usr/bin/env bash
# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# usage: bash tools/test_upstream.sh [--dense] [pytest arguments]
# Pre-training and classification on upstream OpenMMLab (mmengine 0.10.7,
# mmcv-lite 2.1.0, mmpretrain 1.2.0), in an environment of its own, since the
# maintained onedl packages own the same folders. Every other version is that
# of constraints.txt. --dense instead: a training step of HTC (mmdet 3.3.0) and
# of UPerNet (mmsegmentation 1.2.2) on mmcv 2.1.0, with its operators compiled
# for the CPU, in another environment.
# MMEFFMAE_UPSTREAM_VENV: the environment's folder (default .cache/upstream-venv
# or .cache/upstream-dense-venv, about 6 GB; a second run installs nothing).
# MAX_JOBS: compiler processes of --dense (default 2).
set -euo pipefail

NAME=upstream
STEP_TOTAL=8
if [ "${1:-}" = --dense ]; then
    NAME=upstream-dense
    STEP_TOTAL=6
    shift
fi
# shellcheck source=tools/steps.sh
source "$(dirname "${BASH_SOURCE[0]}")/steps.sh"
cd "$ROOT"
STEP_LOGS=$ROOT/.cache/logs/$NAME
VENV=${MMEFFMAE_UPSTREAM_VENV:-$ROOT/.cache/$NAME-venv}
OUT=$ROOT/.cache/$NAME
UPSTREAM=(mmengine==0.10.7 mmpretrain==1.2.0)
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
if [ "$NAME" = upstream ]; then
    UPSTREAM+=(mmcv-lite==2.1.0)
else
    UPSTREAM+=(mmcv==2.1.0 mmdet==3.3.0 mmsegmentation==1.2.2)
    TESTS=(tests/test_compat.py)
fi

# Only the first step installs.
progress_line() {
    if [ "$STEP_NUMBER" -eq 1 ]; then
        install_progress "$1"
    else
        last_line "$1"
    fi
}

pip_install() {
    "$VENV/bin/python" -m pip install --disable-pip-version-check \
        --constraint "$VENV/constraints.txt" "$@"
}

install() {
    [ -x "$VENV/bin/python" ] || "${MMEFFMAE_PYTHON:-python3}" -m venv "$VENV"
    grep -vE '^(mmcv-lite|onedl-)' constraints.txt >"$VENV/constraints.txt"
    printf '%s\n' "${UPSTREAM[@]}" >>"$VENV/constraints.txt"
    pip_install pip setuptools wheel
    pip_install torch torchvision
    [ "$NAME" = upstream ] || build_ops
    # mmsegmentation imports ftfy and regex without asking for them.
    pip_install "${UPSTREAM[@]}" pytest safetensors timm ftfy regex
}

# Without a GPU in sight mmcv builds for the CPU; its setup needs pkg_resources,
# so it must see this environment's setuptools.
build_ops() {
    pip_install ninja psutil packaging
    CUDA_VISIBLE_DEVICES='' MMCV_WITH_OPS=1 MAX_JOBS=${MAX_JOBS:-2} pip_install --verbose \
        --no-build-isolation --no-deps --no-cache-dir --no-binary mmcv mmcv==2.1.0
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

FEW=(train_cfg.max_epochs=1 train_dataloader.num_workers=0
    train_dataloader.persistent_workers=False)

classification() {
    local few=("${FEW[@]}" train_dataloader.dataset.indices=64)
    step "Pre-training: one epoch of two iterations" "$READ_LOG" \
        python tools/train.py configs/mae/mae_quick.py --work-dir "$OUT/pretrain" \
        --cfg-options "${few[@]}"
    step "Resume: a second epoch" "$READ_LOG" \
        python tools/train.py configs/mae/mae_quick.py --work-dir "$OUT/pretrain" --resume \
        --cfg-options "${few[@]}" train_cfg.max_epochs=2
    grep -q 'resumed epoch: 1, iter: 2' "$STEP_LOGS/$STEP_NUMBER-resume.log" ||
        die "The second run did not resume: see $STEP_LOGS/$STEP_NUMBER-resume.log"
    step "Export" "$READ_LOG" python tools/export_backbone.py \
        "$OUT/pretrain/epoch_2.pth" --out "$OUT/backbone.pth"
    step "Classification: two iterations of fine-tuning" "$READ_LOG" \
        python tools/benchmarks/probe.py configs/mae/mae_quick.py "$OUT/backbone.pth" \
        --probes finetune --finetune views=64 batch_size=32
}

# one_step TITLE CONFIG: of four images, from an untrained backbone.
one_step() {
    step "$1: one training step" "$READ_LOG" \
        python tools/train.py "$2" --work-dir "$OUT/$1" --no-validate \
        --cfg-options "${FEW[@]}" train_dataloader.dataset.indices=4 \
        model.backbone.init_cfg=None
}

step "Doctor" "$READ_LOG" python -m mmeffmae.doctor
step "Mini scenes" "$READ_LOG" python tools/make_mini_scenes.py --out data/mini
if [ "$NAME" = upstream ]; then
    classification
else
    one_step HTC configs/htcpp/htc_quick.py
    one_step UPerNet configs/upernet/upernet_quick.py
fi
step "Tests" "$READ_LOG" python -m pytest -q -p no:cacheprovider -m 'not long' \
    "${TESTS[@]}" "$@"
tail -n 1 "$STEP_LOGS/$STEP_NUMBER-tests.log"
