# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# shellcheck shell=bash
# Sourced by the other scripts: numbered steps with a log each.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
STEP_PID=
STEP_NUMBER=0
STEP_TOTAL=${STEP_TOTAL:-1}
STEP_LOGS=${STEP_LOGS:-$ROOT/.cache/logs}

die() {
    printf '\n' >&2
    printf '%s\n' "$@" >&2
    exit 1
}

minutes() {
    printf '%dm%02ds' $(($1 / 60)) $(($1 % 60))
}

stop_step() {
    if [ -n "$STEP_PID" ]; then
        kill -- "-$STEP_PID" 2>/dev/null || true
        STEP_PID=
    fi
}
trap stop_step EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# What a running step says about itself: the last line of its log. A
# script may define its own.
progress_line() {
    last_line "$1"
}

last_line() {
    tail -n 1 "$1" 2>/dev/null | sed 's/^.* - INFO - //' | cut -c1-100
}

# What pip is at; the last line of its log may be a compiler's.
install_progress() {
    local count
    count=$(grep -aoE '^ *\[[0-9]+/[0-9]+\]' "$1" 2>/dev/null | tail -n 1 | tr -d ' []')
    if [ -n "$count" ]; then
        printf '[ %s ] files compiled' "$count"
    else
        grep -aE 'Collecting |Downloading |Installing |Building ' "$1" 2>/dev/null |
            tail -n 1 | sed 's/^ *//' | cut -c1-100
    fi
}

# step TITLE MEND COMMAND...: runs the command with its output in a log,
# reports every 15 seconds, and stops the script with MEND when it fails.
step() {
    local title=$1 mend=$2 begin=$SECONDS shown=$SECONDS log name status=0
    shift 2
    STEP_NUMBER=$((STEP_NUMBER + 1))
    name=$(printf '%s' "${title%%:*}" | tr -cs 'A-Za-z0-9' '-' | tr '[:upper:]' '[:lower:]')
    log=$STEP_LOGS/$STEP_NUMBER-${name%-}.log
    mkdir -p "$STEP_LOGS"
    printf '[%d/%d] %s\n' "$STEP_NUMBER" "$STEP_TOTAL" "$title"
    set -m # a process group of its own, so that stopping it stops its children
    "$@" >"$log" 2>&1 </dev/null &
    STEP_PID=$!
    set +m
    while kill -0 "$STEP_PID" 2>/dev/null; do
        sleep 1
        if [ $((SECONDS - shown)) -ge 15 ]; then
            shown=$SECONDS
            printf '      %s  %s\n' "$(minutes $((SECONDS - begin)))" \
                "$(progress_line "$log")"
        fi
    done
    wait "$STEP_PID" || status=$?
    STEP_PID=
    if [ "$status" -ne 0 ]; then
        printf '\nThe last lines of %s:\n' "$log" >&2
        tail -n 20 "$log" | sed 's/^/    /' >&2
        die "Step $STEP_NUMBER of $STEP_TOTAL failed (exit $status): $title" \
            "  log:        $log" \
            "  what to do: $mend"
    fi
    printf '      done in %s\n' "$(minutes $((SECONDS - begin)))"
}

# skip_step TITLE COUNT: that many steps have nothing to do.
skip_step() {
    STEP_NUMBER=$((STEP_NUMBER + $2))
    printf '[%d/%d] %s\n' "$STEP_NUMBER" "$STEP_TOTAL" "$1"
}
