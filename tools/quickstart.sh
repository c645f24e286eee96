#!/usr/bin/env bash
# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# usage: bash tools/quickstart.sh [--no-ops]
# From a fresh clone to a pre-trained, measured and exported encoder, and a
# detector and a segmentor that start from it: set-up, then less than ten
# minutes on two cores. --no-ops: see tools/setup_env.sh; no detector and no
# segmentor then.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

OUT=work_dirs/quickstart
RUN=$OUT/pretrain
CONFIG=configs/emae/emae_quick.py

bash tools/setup_env.sh "$@"
source .venv/bin/activate

DOWNSTREAM=(htcpp/htc_quick upernet/upernet_quick)
[ "${1:-}" != --no-ops ] || DOWNSTREAM=()
STEP_TOTAL=$((6 + ${#DOWNSTREAM[@]}))
STEP_LOGS=$OUT/logs
# shellcheck source=tools/steps.sh
source tools/steps.sh
export MPLBACKEND=Agg PYTHONUNBUFFERED=1

# A GPU is of no use to a detector whose operators were built without CUDA.
if [ ${#DOWNSTREAM[@]} -gt 0 ] && python - <<'PY' 2>/dev/null
import sys
import torch
from mmcv.ops import get_compiling_cuda_version
built = get_compiling_cuda_version() != 'not available'
sys.exit(built or not torch.cuda.is_available())
PY
then
    echo "Note: mmcv's operators have no CUDA here; everything runs on the CPU."
    export CUDA_VISIBLE_DEVICES=
fi

# Results of an earlier run must not mix with this one's.
rm -rf "$OUT"
mkdir -p "$OUT"

last_checkpoint() {
    cat "$RUN/last_checkpoint"
}

step "Doctor: what the installed packages can do" \
    "the log names what is missing; remove .venv and run this script again to set up afresh" \
    python -m mmeffmae.doctor
step "Mini scenes: small labelled images in data/mini" \
    "free some disk space, remove data/mini, and run this script again" \
    python tools/make_mini_scenes.py --out data/mini
step "Pre-training: $CONFIG" \
    "read the error at the end of the log; if memory ran out, close other programs and run this script again" \
    python tools/train.py "$CONFIG" --work-dir "$RUN"
step "Probes: kNN and linear, untrained and pre-trained encoder" \
    "see whether $RUN holds a checkpoint; if not, the log of step 3 says why" \
    python tools/benchmarks/probe.py "$CONFIG" "$(last_checkpoint)" --untrained \
    --json "$RUN/probe.json"
step "Export: the encoder for mmpretrain, mmdet and mmseg" \
    "the log lists the keys that do not fit; remove $OUT and run this script again" \
    python tools/export_backbone.py "$(last_checkpoint)" --out "$RUN/backbone.pth"
WORK_DIRS=()
for name in ${DOWNSTREAM[@]+"${DOWNSTREAM[@]}"}; do
    WORK_DIRS+=("$OUT/$(basename "$name")")
    step "Training of $(basename "$name"): configs/$name.py" \
        "if mmcv's operators are missing, run 'bash tools/setup_env.sh' and this script again; else read the error at the end of the log" \
        python tools/train.py "configs/$name.py" --work-dir "${WORK_DIRS[-1]}" \
        --cfg-options model.backbone.init_cfg.checkpoint="$RUN/backbone.pth"
done
step "Report: pictures, curves and figures on one page" \
    "the results themselves are complete in $OUT; run this script again" \
    python tools/analysis/quickstart_report.py "$RUN" --out "$OUT/report.html" \
    ${WORK_DIRS[@]+--downstream "${WORK_DIRS[@]}"}

grep -hE '^(untrained|trained) ' "$STEP_LOGS"/4-*.log || true
grep -oHE '(coco/bbox_mAP|coco/segm_mAP|mIoU): +[0-9.]+' "$STEP_LOGS"/*-training-*.log \
    | sed "s#^$STEP_LOGS/[0-9]*-training-of-##; s#\.log:# #" || true
cat <<TEXT

Done. What there is now:
  report     $OUT/report.html
  backbone   $RUN/backbone.pth (how to load it: $STEP_LOGS/5-export.log)
  training   $RUN
TEXT
