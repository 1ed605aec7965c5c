#!/bin/bash
# A guard that no busy machine can upset: counts the instructions of one fixed workload (the engine,
# ports in memory, a Lua handler) and compares them with tests/bench/instructions.txt.
#
# usage: tests/bench/instructions.sh BUILD-DIR [--write]
#
# Fails when there are more than 5 % more. The figure holds for one compiler and one Lua, which the
# file names; with others it only prints. --write puts a new figure into the file.
set -u -o pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/../lib/common.sh"

MOST_PERCENT=105
FILE=$LVT_ROOT/tests/bench/instructions.txt
BUILD=${1:?usage: instructions.sh BUILD-DIR [--write]}

command -v valgrind >/dev/null ||
    lvt_die $EX_UNAVAILABLE "valgrind is not installed; run: $LVT_LIB/install.sh test"

out=$(mktemp) || exit
trap 'rm -f "$out"' EXIT
valgrind --tool=callgrind --toggle-collect=workload --callgrind-out-file=/dev/null \
    "$BUILD/bench_engine_load" "$LVT_ROOT/tests/bench/handlers/lua/ticket.created.lua" \
    >"$out" 2>&1 || {
    tail -n 20 "$out" >&2
    exit 1
}
counted=$(sed -n 's/.*Collected : \([0-9]*\)$/\1/p' "$out")
with="$(cc --version | head -n 1), $(uname -m), Lua $(pkg-config --modversion lua5.4)"
if [ "${2:-}" = --write ]; then
    printf '%s\n%s\n' "$counted" "$with" >"$FILE"
fi
{
    read -r committed
    read -r committed_with
} <"$FILE"
lvt_note "$counted instructions; $committed are committed ($((counted * 1000 / committed - 1000)) per mille more)"
if [ "$with" != "$committed_with" ]; then
    lvt_note "not compared: the figure is of $committed_with, this is $with"
elif [ "$counted" -gt $((committed / 100 * MOST_PERCENT)) ]; then
    lvt_die 1 "more than 5 % over: find what costs so much, or, where it is worth it, run this with --write"
fi
