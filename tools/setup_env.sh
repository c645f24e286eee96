#!/usr/bin/env bash
# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Makes .venv in the repository root with the versions of constraints.txt.
# A second run finds everything in place and installs nothing.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: bash tools/setup_env.sh [--no-ops]

  --no-ops   install mmcv-lite instead of compiling mmcv's operators: enough for
             pre-training and classification, not for detection and segmentation;
             needs no compiler

  MMEFFMAE_PYTHON   the interpreter for .venv (Python 3.10 or newer; default: the
                    first of python3.11, python3.12, python3.10, python3.13,
                    python3 that works)
  MAX_JOBS          compiler processes (default: by cores and free memory)
TEXT
}

VARIANT=ops
case "${1:-}" in
'') ;;
--no-ops) VARIANT=lite ;;
-h | --help)
    usage
    exit 0
    ;;
*)
    usage >&2
    exit 2
    ;;
esac

STEP_TOTAL=5
# shellcheck source=tools/steps.sh
source "$(dirname "${BASH_SOURCE[0]}")/steps.sh"
STEP_LOGS=$ROOT/.cache/logs/setup
VENV=$ROOT/.venv
PYTHON=$VENV/bin/python
STAMP=$VENV/mmeffmae-setup
CONSTRAINTS=$ROOT/constraints.txt
NETWORK_MEND="check the network and the free disk space (set TMPDIR if /tmp is small), then run this script again: it continues where it stopped"

pinned() {
    sed -nE "s/^$1==([^ ;]+).*/\1/p" "$CONSTRAINTS"
}

installed() {
    "$PYTHON" - "$1" <<'PY'
import importlib.metadata as metadata
import sys
try:
    print(metadata.version(sys.argv[1]))
except metadata.PackageNotFoundError:
    pass
PY
}

# What the environment depends on; equal key, nothing to do.
setup_key() {
    {
        cat "$CONSTRAINTS" "$ROOT/pyproject.toml" "$ROOT/setup.py"
        printf '%s %s ' "$VARIANT" "$ROOT"
        "$PYTHON" -c 'import sys; print(sys.version_info[:2])'
    } | cksum
}

python_works() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1
}

find_python() {
    local candidate
    if [ -n "${MMEFFMAE_PYTHON:-}" ]; then
        python_works "$MMEFFMAE_PYTHON" || die \
            "MMEFFMAE_PYTHON=$MMEFFMAE_PYTHON is not a working Python 3.10 or newer: name another."
        printf '%s' "$MMEFFMAE_PYTHON"
        return
    fi
    for candidate in python3.11 python3.12 python3.10 python3.13 python3; do
        if python_works "$candidate"; then
            printf '%s' "$candidate"
            return
        fi
    done
    die "No Python 3.10 or newer found: install one (tested: 3.11), or name it in MMEFFMAE_PYTHON."
}

has_compiler() {
    command -v "${CXX:-c++}" >/dev/null 2>&1 && "$PYTHON" - <<'PY'
import os
import sys
import sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path('include'), 'Python.h')))
PY
}

compile_jobs() {
    local cores memory jobs
    cores=$(nproc 2>/dev/null || echo 2)
    # A compiler process takes up to 1.5 GB.
    memory=$(awk '/MemAvailable/ {print int($2 / 1572864)}' /proc/meminfo 2>/dev/null || true)
    jobs=$cores
    [ "${memory:-$cores}" -lt "$jobs" ] && jobs=$memory
    [ "$jobs" -lt 1 ] && jobs=1
    printf '%d' "$jobs"
}

pip_install() {
    "$PYTHON" -m pip install --disable-pip-version-check --constraint "$CONSTRAINTS" "$@"
}

base_tools() {
    pip_install pip setuptools wheel packaging psutil ninja
}

# 'cpu', or 'cuda13.0' where there is a GPU and a toolkit of torch's CUDA version:
# a compiled wheel works only with the torch it was built for, and on such a GPU.
ops_flavour() {
    "$PYTHON" - <<'PY' 2>/dev/null
import subprocess
import torch
from torch.utils.cpp_extension import CUDA_HOME
flavour = 'cpu'
if torch.cuda.is_available() and CUDA_HOME:
    try:  # a folder of libraries alone has no compiler
        said = subprocess.run([f'{CUDA_HOME}/bin/nvcc', '--version'],
                              capture_output=True, text=True).stdout
    except OSError:
        said = ''
    if f'release {torch.version.cuda}' in said:
        major, minor = torch.cuda.get_device_capability()
        flavour = f'cuda{torch.version.cuda}-sm{major}{minor}'
print(flavour)
PY
}

# CUDA's version of torch, where there is a GPU.
gpu_cuda() {
    "$PYTHON" -c 'import torch
if torch.cuda.is_available(): print(torch.version.cuda)' 2>/dev/null || true
}

ops_folder() {
    local cache=${XDG_CACHE_HOME:-${HOME:-$ROOT}/.cache}
    mkdir -p "$cache/mmeffmae" 2>/dev/null && [ -w "$cache/mmeffmae" ] ||
        cache=$ROOT/.cache
    "$PYTHON" - "$cache/mmeffmae/wheels" "$(pinned onedl-mmcv)" "$1" <<'PY'
import os
import platform
import sys
import torch
folder, version, flavour = sys.argv[1:]
tag = f'cp{sys.version_info[0]}{sys.version_info[1]}-{platform.machine()}'
print(os.path.join(folder, f'mmcv{version}-torch{torch.__version__}-{flavour}-{tag}'))
PY
}

# pip caches a wheel under its source archive, whatever torch it was built for:
# its cache stays out of this, and ours is keyed by torch, flavour and Python.
build_ops() {
    local folder=$1 flavour=$2
    mkdir -p "$folder"
    [ "$flavour" != cpu ] || export CUDA_VISIBLE_DEVICES=
    "$PYTHON" -m pip wheel --disable-pip-version-check --verbose --no-deps \
        --no-build-isolation --no-cache-dir --no-binary onedl-mmcv \
        --wheel-dir "$folder.part" "onedl-mmcv==$(pinned onedl-mmcv)"
    mv "$folder.part"/*.whl "$folder/"
    rm -rf "$folder.part"
}

install_ops() {
    "$PYTHON" -m pip uninstall --yes mmcv-lite
    pip_install --force-reinstall --no-deps --no-cache-dir "$1"/*.whl
    pip_install "$1"/*.whl # what it depends on
    ops_work
}

ops_work() {
    "$PYTHON" -c 'import torch, mmcv._ext'
}

# mmcv-lite asks for upstream mmengine, which onedl-mmengine replaces: no deps.
install_packages() {
    if [ "$VARIANT" = ops ]; then
        pip_install --no-build-isolation --editable "${ROOT}[onedl-det,onedl-seg,dev]"
    else
        "$PYTHON" -m pip uninstall --yes onedl-mmcv
        pip_install --no-deps mmcv-lite
        pip_install --no-build-isolation onedl-mmengine onedl-mmpretrain opencv-python \
            --editable "${ROOT}[dev]"
    fi
}

progress_line() {
    install_progress "$1"
}

if [ -e "$VENV" ] && ! python_works "$PYTHON"; then
    die "$VENV has no working Python 3.10 or newer (was the folder moved?)." \
        "  what to do: rm -rf $VENV, and run this script again"
fi
if [ -x "$PYTHON" ] && [ "$(cat "$STAMP" 2>/dev/null)" = "$(setup_key)" ]; then
    echo "Environment: $VENV is complete."
    exit 0
fi

if [ ! -x "$PYTHON" ]; then
    interpreter=$(find_python)
    echo "Environment: makes $VENV with $("$interpreter" --version) (about 6 GB)"
    "$interpreter" -m venv "$VENV" || {
        rm -rf "$VENV"
        die "$interpreter cannot make a virtual environment." \
            "  what to do: install its venv module (Debian, Ubuntu: python3-venv), or name another interpreter in MMEFFMAE_PYTHON"
    }
else
    echo "Environment: completes $VENV"
fi
if [ "$VARIANT" = ops ] && ! has_compiler; then
    die "No C++ compiler, or no headers for $("$PYTHON" --version): mmcv's operators cannot be built." \
        "  what to do: install g++ and python3-dev (Debian, Ubuntu), or run 'bash tools/setup_env.sh --no-ops'" \
        "              for pre-training and classification alone"
fi
free=$(df -Pk "$ROOT" | awk 'NR == 2 {print int($4 / 1048576)}')
[ "$free" -ge 12 ] || echo "Note: $free GB are free, the installation takes up to 12 GB."

rm -f "$STAMP"
step "Build tools" "$NETWORK_MEND" base_tools
step "torch and torchvision: a download of up to 3 GB" "$NETWORK_MEND" \
    pip_install "torch==$(pinned torch)" "torchvision==$(pinned torchvision)"
if [ "$VARIANT" = lite ]; then
    skip_step "mmcv's operators: left out (--no-ops)" 2
elif [ "$(installed onedl-mmcv)" = "$(pinned onedl-mmcv)" ] && ops_work 2>/dev/null; then
    skip_step "mmcv's operators: in place" 2
else
    flavour=$(ops_flavour)
    folder=$(ops_folder "$flavour")
    cuda=$(gpu_cuda)
    if [ "$flavour" = cpu ] && [ -n "$cuda" ]; then
        echo "Note: there is a GPU, but no nvcc of CUDA $cuda: mmcv's operators are built without CUDA," \
            "and detectors run on the CPU only. To change that, install the toolkit of CUDA $cuda, set CUDA_HOME," \
            "remove .venv and run this script again. Pre-training needs none of it."
    fi
    if compgen -G "$folder/*.whl" >/dev/null; then
        skip_step "mmcv's operators: built earlier ($folder)" 1
    else
        MAX_JOBS=${MAX_JOBS:-$(compile_jobs)}
        export MAX_JOBS
        step "mmcv's operators ($flavour): compiled with $MAX_JOBS jobs, about 8 minutes with 2" \
            "read the first 'error' in the log; out of memory: run again with MAX_JOBS=1; without operators: bash tools/setup_env.sh --no-ops" \
            build_ops "$folder" "$flavour"
    fi
    step "mmcv" "if the log says libGL: install libgl1 and libglib2.0-0 (Debian, Ubuntu); if it says undefined symbol: rm -rf $folder; then run this script again" \
        install_ops "$folder"
fi
step "OpenMMLab packages, developer tools and mmeffmae itself" "$NETWORK_MEND" install_packages
setup_key >"$STAMP"
echo "Environment: ready. Use it with: source .venv/bin/activate"
