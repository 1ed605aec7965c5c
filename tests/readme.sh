#!/bin/bash
# The README's configuration tables are what `leveret run --help-config` prints.
#   tests/readme.sh LEVERET           fails when they differ, and shows how
#   tests/readme.sh --write LEVERET   brings the README up to date
set -eu
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
write=false
if [ "${1:-}" = --write ]; then
    write=true
    shift
fi
leveret=${1:?usage: tests/readme.sh [--write] LEVERET}

fresh=$(mktemp)
trap 'rm -f "$fresh"' EXIT
{
    sed '/^<!-- begin: leveret run --help-config -->$/q' README.md
    printf '\n'
    "$leveret" run --help-config
    printf '\n'
    sed -n '/^<!-- end -->$/,$p' README.md
} >"$fresh"

if $write; then
    cat "$fresh" >README.md
elif ! diff -u README.md "$fresh"; then
    echo "README.md is not what the program says of its configuration; run: tests/readme.sh --write $leveret"
    exit 1
fi
