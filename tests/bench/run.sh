#!/bin/bash
# The benchmark, on servers of its own: tests/bench/run.sh [--quick] [--growth | --tuning | --only WORD...]
#
# --quick    fewer of everything, in under five minutes; also of the next two
# --growth   how the rate changes with the depth of the queue, the size of bodies, and so on
# --tuning   what the settings of the README's tuning page do
# --only     only the contenders whose name has that word
# Other options go to bench.py. Needs npm for the worker in Node, go for the one in Go, celery for
# that one; what is not there is left out of the table, which says so. Afterwards build/bench has
# bench.json and bench.svg.
set -u -o pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/../lib/common.sh"

case ${1:-} in
    -h | --help)
        sed -n '2,/^set/{/^#/s/^# \?//p}' "${BASH_SOURCE[0]}"
        exit 0
        ;;
esac

BENCH=$LVT_ROOT/tests/bench
BUILD=$LVT_ROOT/build/bench
WORKERS=$BUILD/bench-workers

# What is missing is not an error: the race goes on without it.
set_up_workers() {
    mkdir -p "$WORKERS/node" "$WORKERS/go"
    if command -v npm >/dev/null; then
        cp "$BENCH"/workers/node/* "$WORKERS/node/"
        lvt_note "waiting for npm to install amqplib, pg and ioredis ..."
        (cd "$WORKERS/node" && npm install --silent --no-audit --no-fund) ||
            rm -f "$WORKERS/node/worker.js"
    fi
    if command -v go >/dev/null; then
        lvt_note "compiling the worker in Go ..."
        (cd "$BENCH/workers/go" && GO111MODULE=off GOPATH=/usr/share/gocode \
            go build -o "$WORKERS/go/worker" main.go) || rm -f "$WORKERS/go/worker"
    fi
}

finish() {
    trap '' INT TERM
    [ -z "${LVT_SLOT:-}" ] || "$LVT_ROOT/tests/services.sh" stop "$LVT_SLOT/services" 7>&-
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

"$LVT_LIB/install.sh" build server client test || exit
lvt_step 'Building'
lvt_build "$BUILD" all -DCMAKE_BUILD_TYPE=Release -DLEVERET_TESTS=OFF -DLEVERET_BENCH=ON || exit
set_up_workers
lvt_claim_slot "$LVT_ROOT/build/run/bench" || exit
lvt_step 'Starting RabbitMQ, PostgreSQL, Redis'
"$LVT_ROOT/tests/services.sh" start "$LVT_SLOT/services" 7>&- || exit
eval "$("$LVT_ROOT/tests/services.sh" env "$LVT_SLOT/services" 7>&-)"
export RABBITMQ_URL DATABASE_URL REDIS_URL PYTHONDONTWRITEBYTECODE=1
lvt_step 'Measuring'
/usr/bin/python3 "$BENCH/bench.py" "$BUILD" "$@" 7>&-
