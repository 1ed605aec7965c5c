#!/bin/bash
# Faults by the dozen, on servers of its own, against a program built as released:
# tests/chaos/run.sh [--seed N] [--minutes N] [--faults NAME,...] [--short] [--log FILE]
#
# --seed     repeats a schedule; without it a new one is made up, and printed
# --minutes  for how long faults follow each other; 10 unless told, each fault once at least
# --faults   only these; run.py --help names them all
# --short    few faults, once and briefly each
# --log      where the worker's log is kept
set -u -o pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/../lib/common.sh"

case ${1:-} in
    -h | --help)
        sed -n '2,/^set/{/^#/s/^# \?//p}' "${BASH_SOURCE[0]}"
        exit 0
        ;;
esac

BUILD=$LVT_ROOT/build/release
"$LVT_LIB/install.sh" build server client test || exit
lvt_step 'Building'
lvt_build "$BUILD" leveret -DCMAKE_BUILD_TYPE=Release || exit
BIN=$(mktemp -d) || exit
trap 'rm -rf "$BIN"' EXIT
flock "$BUILD.lock" cp "$BUILD/leveret" "$BIN/" || exit # another run's build may replace it
lvt_step 'Faults'
LEVERET_BIN=$BIN/leveret /usr/bin/python3 "$LVT_ROOT/tests/chaos/run.py" "$@"
