#!/bin/bash
# All tests, on servers of their own: tests/run.sh [--full] [FILTER]
#
# FILTER picks unit tests by name (ctest -R) and end-to-end tests by expression (pytest -k).
# --full adds what takes longer: the tests marked 'full', the branches that are tested, more seeds,
# and the container.
set -u -o pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib/common.sh"

usage() { echo "usage: tests/run.sh [--full] [FILTER]"; }

FULL=
FILTER=
for argument in "$@"; do
    case $argument in
        --full) FULL=1 ;;
        -h | --help)
            usage
            exit 0
            ;;
        -*)
            usage >&2
            exit $EX_USAGE
            ;;
        *) FILTER=$argument ;;
    esac
done

RESULTS=()
FAILED=0
TESTED=
STEADY=()

# stage NAME COMMAND...: runs one part of the tests and notes how it went. 5 is pytest's way to say
# that the filter left nothing to run.
stage() {
    local name=$1 start_s=$SECONDS code outcome
    shift
    lvt_step "$name"
    "$@"
    code=$?
    if [ $code -eq 0 ]; then
        outcome="${LVT_GREEN}passed${LVT_PLAIN}"
    elif [ $code -eq 5 ] && [ -n "$FILTER" ]; then
        outcome='nothing to run'
    else
        outcome="${LVT_RED}FAILED${LVT_PLAIN}"
        FAILED=1
    fi
    case $name:$code in *tests*:[!5]*) TESTED=1 ;; esac
    RESULTS+=("$(printf '%-44s %s (%d s)' "$name" "$outcome" $((SECONDS - start_s)))")
    return $code
}

# unit_tests BUILD-DIR [CTEST-ARGUMENT...]: those named '_live' use the servers, too. A
# filter takes the place of the arguments.
unit_tests() (
    local dir=$1
    shift
    if [ -n "$FILTER" ]; then
        set -- -R "$FILTER"
        ctest --test-dir "$dir" -N "$@" | grep -q 'Test *#' || return 5
    fi
    eval "$("$LVT_ROOT/tests/services.sh" env "$LVT_SLOT/services" 7>&-)"
    RABBITMQ_WRITER_URL=$("$LVT_ROOT/tests/services.sh" writer "$LVT_SLOT/services" 7>&-) || return
    export RABBITMQ_WRITER_URL
    ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1 \
        UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
        TSAN_OPTIONS=second_deadlock_stack=1 \
        flock "$dir.lock" "${STEADY[@]}" ctest --test-dir "$dir" --output-on-failure \
        --parallel "$(nproc)" --timeout 120 --no-tests=error "$@" 7>&-
)

# e2e_part BIN LIMIT_S PYTEST-ARGUMENT...
e2e_part() {
    local bin=$1 limit_s=$2
    shift 2
    LEVERET_BIN=$bin/leveret LEVERET_TEST_SERVICES=$LVT_SLOT/services PYTHONDONTWRITEBYTECODE=1 \
        timeout --foreground -s INT -k 30 "$limit_s" "${STEADY[@]}" /usr/bin/python3 -m pytest \
        -p no:cacheprovider --basetemp="$LVT_SLOT/pytest-${bin##*/}" \
        --durations=5 -r fE ${FULL:+--full} ${FILTER:+-k "$FILTER"} "$@" 7>&-
}

# e2e_tests BUILD-DIR LIMIT_S PYTEST-ARGUMENT...: on a copy of the program, which another run's
# build cannot replace meanwhile. Most tests wait most of the time, so several run at once, with
# servers of their own; those about speed come after them. At the limit pytest is interrupted, so
# that it still cleans up.
e2e_tests() {
    local dir=$1 limit_s=$2 bin together alone
    shift 2
    bin=$LVT_SLOT/${dir##*/}
    mkdir -p "$bin/tests" "$bin/examples" &&
        flock "$dir.lock" cp -rf "$dir"/{leveret,example_messaging,plugins} "$bin/" &&
        flock "$dir.lock" cp -rf "$dir/tests/plugins" "$bin/tests/" &&
        flock "$dir.lock" cp -rf "$dir/examples/crud-server" "$bin/examples/" || return
    e2e_part "$bin" "$limit_s" -m 'not alone' -n $(($(nproc) + 2)) --dist loadfile "$@"
    together=$?
    e2e_part "$bin" "$limit_s" -m alone "$@"
    alone=$?
    if [ $together -eq 0 ] || [ $together -eq 5 ]; then
        if [ $alone -ne 5 ]; then return $alone; fi
    fi
    return $together
}

# simulate BUILD-DIR FROM..TO
simulate() { "$1/sim" --seeds "$2" ${FULL:+--progress}; }

# fuzz BUILD-DIR SECONDS: every fuzzer for so long, from its corpus; what breaks one stays in the slot.
fuzz() {
    local name dir=$LVT_SLOT/fuzz broken=0
    for name in "$LVT_ROOT"/tests/fuzz/fuzz_*.c; do
        name=$(basename "$name" .c)
        mkdir -p "$dir/$name"
        "$1/$name" -max_total_time="$2" -timeout=10 -rss_limit_mb=2048 -verbosity=0 \
            -artifact_prefix="$dir/$name-" "$dir/$name" \
            "$LVT_ROOT/tests/fuzz/corpus/${name#fuzz_}" >"$dir/$name.log" 2>&1 7>&- && continue
        lvt_note "$name is broken by $(ls "$dir/$name"-*)"
        tail -n 40 "$dir/$name.log"
        broken=1
    done
    return $broken
}

# torture KIND [STEP]: every STEP-th call fails, each in a run of its own.
torture() { flock "$BUILD/plain.lock" "$BUILD/plain/torture" "$1" "${2:-5}"; }

# chaos ARGUMENT...: with a program as released, from a copy.
chaos() {
    local bin=$LVT_SLOT/chaos
    mkdir -p "$bin" && flock "$BUILD/plain.lock" cp -f "$BUILD/plain/leveret" "$bin/" &&
        LEVERET_BIN=$bin/leveret /usr/bin/python3 "$LVT_ROOT/tests/chaos/run.py" "$@" 7>&-
}

finish() {
    local line
    trap '' INT TERM
    if [ -n "${LVT_SLOT:-}" ]; then
        lvt_step "Stopping the servers"
        lvt_stop_services "$LVT_SLOT" 7>&-
    fi
    if [ ${#RESULTS[@]} -gt 0 ]; then
        lvt_step "Summary, after $SECONDS s"
        for line in "${RESULTS[@]}"; do lvt_note "$line"; done
    fi
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

BUILD=$LVT_ROOT/build
E2E=$LVT_ROOT/tests/e2e
E2E_LIMIT_S=600
if [ -n "$FULL" ]; then E2E_LIMIT_S=3600; fi

"$LVT_LIB/install.sh" build server client test || exit
export CI=1 # makes warnings errors
stage 'build with ASan and UBSan' lvt_build "$BUILD/asan" all \
    -DCMAKE_BUILD_TYPE=Debug -DLEVERET_SANITIZE=address || exit
# test_install.py installs it.
stage 'build as released' lvt_build "$BUILD/plain" all \
    -DCMAKE_BUILD_TYPE=Release -DLEVERET_BENCH=ON -DCMAKE_INSTALL_PREFIX=/usr || exit
stage 'README: its configuration tables' "$LVT_ROOT/tests/readme.sh" "$BUILD/asan/leveret"
lvt_claim_slot "$BUILD/run/tests" || exit
stage 'start RabbitMQ, PostgreSQL, Redis' \
    "$LVT_ROOT/tests/services.sh" start "$LVT_SLOT/services" 7>&- || exit
stage 'unit tests (ASan, UBSan)' unit_tests "$BUILD/asan"
stage 'end-to-end tests (ASan, UBSan)' e2e_tests "$BUILD/asan" $E2E_LIMIT_S "$E2E"

if [ -z "$FILTER" ]; then
    stage 'simulator, 3,000 seeds (ASan, UBSan)' simulate "$BUILD/asan" 1..3000
fi
if [ -z "$FILTER" ]; then
    if command -v clang >/dev/null; then
        stage 'build the fuzzers' lvt_build "$BUILD/fuzz" fuzzers -DCMAKE_BUILD_TYPE=Debug \
            -DCMAKE_C_COMPILER=clang -DCMAKE_C_FLAGS=-O1 -DLEVERET_FUZZ=ON -DLEVERET_TESTS=OFF || exit
        stage 'fuzzers, a moment each' fuzz "$BUILD/fuzz" "${FULL:+6}2"
    else
        lvt_note "the fuzzers are left out: they need clang"
    fi
fi
if [ -z "$FILTER" ]; then
    stage 'torture: memory that runs out' torture memory ${FULL:+1}
    stage 'torture: system calls that fail' torture system 1
fi
LEVERET_TORTURE=$BUILD/plain stage 'torture tests of the worker as released' \
    e2e_tests "$BUILD/plain" $E2E_LIMIT_S "$E2E/test_torture.py" \
    "$E2E/test_lua_limits.py::test_a_hog_takes_no_more_than_its_cap"
if [ -z "$FILTER" ]; then
    stage 'instructions of a fixed workload' "$LVT_ROOT/tests/bench/instructions.sh" "$BUILD/plain"
    stage 'chaos, the short form' chaos --short --services "$LVT_SLOT/services"
fi
stage 'build with TSan' lvt_build "$BUILD/tsan" all \
    -DCMAKE_BUILD_TYPE=Debug -DLEVERET_SANITIZE=thread || exit
# Where addresses are random in 32 bits, gcc 12's ThreadSanitizer does not find room for its maps.
if setarch -R true 2>/dev/null; then STEADY=(setarch -R); fi
# The others have no thread of their own, and under TSan strerror() loses the texts that they check.
stage 'unit tests of the threads (TSan)' unit_tests "$BUILD/tsan" -R 'admin|broker_live|log_writer|native|worker'
# TSan keeps a frame for each time that Lua waits, whose longjmp it does not see: thousands are slow.
# What is about long outages is about no thread.
stage 'end-to-end tests of the threads (TSan)' \
    e2e_tests "$BUILD/tsan" $E2E_LIMIT_S --dist load "$E2E"/test_{opsdesk,outages,shutdown}.py \
    --deselect test_shutdown.py::test_no_ack_of_a_busy_queue_is_forgotten \
    --deselect test_outages.py::test_a_server_that_was_away_for_long_is_found_again_at_once \
    --deselect test_outages.py::test_postgres_fails_over_to_a_standby \
    --deselect test_outages.py::test_retries_outlive_a_broker_that_is_down_for_longer_than_their_delay

if [ -n "$FULL" ] && [ -z "$FILTER" ]; then
    stage 'branches of the engine that are tested' "$LVT_ROOT/tests/coverage.sh"
    stage 'simulator, 100,000 seeds' simulate "$BUILD/plain" 1..100000
    stage 'simulator, engines broken on purpose' "$LVT_ROOT/tests/sim/mutants.sh"
    stage 'chaos' chaos --minutes 20
    stage 'examples/crud.sh' "$LVT_ROOT/examples/crud.sh" --once
    stage 'examples/messaging.sh' "$LVT_ROOT/examples/messaging.sh" --once
    stage 'container' "$LVT_ROOT/tests/container.sh"
fi
if [ -z "$TESTED" ]; then
    lvt_warn "no test fits '$FILTER'"
    FAILED=1
fi
exit $FAILED
