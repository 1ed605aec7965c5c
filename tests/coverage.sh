#!/bin/bash
# Shows which branches of core/engine the unit tests take, and fails unless they take all of them:
# tests/coverage.sh
#
# Those that need servers are left out. gcc counts, without optimization, in a build of its own.
set -u -o pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib/common.sh"

DIR=$LVT_ROOT/build/coverage

"$LVT_LIB/install.sh" build test || exit
lvt_step "Building, the engine with counters"
CI=1 lvt_build "$DIR" all -DCMAKE_C_COMPILER=gcc -DCMAKE_BUILD_TYPE=Debug \
    -DLEVERET_COVERAGE=ON -DLEVERET_EXAMPLES=OFF || exit
exec 9>>"$DIR.lock" && flock 9 || exit
find "$DIR" -name '*.gcda' -delete

lvt_step "Running the unit tests"
ctest --test-dir "$DIR" --exclude-regex _live --output-on-failure --parallel "$(nproc)" \
    --timeout 300 --no-tests=error >"$DIR/tests.log" 2>&1 9>&- || {
    tail -n 60 "$DIR/tests.log"
    exit 1
}

lvt_step "What of core/engine they take"
python3 "$LVT_LIB/branches.py" "$LVT_ROOT" "$DIR/CMakeFiles/lvt_engine.dir/core/engine"
