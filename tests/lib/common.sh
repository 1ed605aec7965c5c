# shellcheck shell=bash
# Functions shared by the scripts in tests and examples.
# Source it from bash; it changes no settings and runs nothing by itself.

LVT_LIB=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
LVT_ROOT=$(cd -- "$LVT_LIB/../.." && pwd -P)

# Exit codes of sysexits.h, as the program itself uses them.
readonly EX_USAGE=64 EX_UNAVAILABLE=69

if [ -t 1 ]; then
    LVT_BOLD=$'\e[1m' LVT_RED=$'\e[31m' LVT_GREEN=$'\e[32m' LVT_DIM=$'\e[2m' LVT_PLAIN=$'\e[0m'
else
    LVT_BOLD='' LVT_RED='' LVT_GREEN='' LVT_DIM='' LVT_PLAIN=''
fi

lvt_step() { printf '%s==> %s%s\n' "$LVT_BOLD" "$*" "$LVT_PLAIN"; }
lvt_note() { printf '    %s\n' "$*"; }
lvt_warn() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

# lvt_die CODE TEXT...
lvt_die() {
    local code=$1
    shift
    lvt_warn "$*"
    exit "$code"
}

# lvt_wait SECONDS WHAT COMMAND...: runs COMMAND until it succeeds. Says what it waits for once that
# has taken more than a second, and how long it took.
lvt_wait() {
    local limit_s=$1 what=$2 start_s=$SECONDS said=
    shift 2
    until "$@"; do
        if [ $((SECONDS - start_s)) -ge "$limit_s" ]; then
            lvt_warn "gave up after $limit_s s waiting for $what"
            return 1
        fi
        if [ -z "$said" ] && [ $((SECONDS - start_s)) -ge 1 ]; then
            lvt_note "waiting for $what ..."
            said=1
        fi
        sleep 0.1
    done
    if [ -n "$said" ]; then
        lvt_note "$what: there after $((SECONDS - start_s)) s"
    fi
}

# lvt_free_ports COUNT: prints so many loopback ports that nobody listens on. They lie outside the
# range that the kernel gives to outgoing connections: a client that keeps trying a stopped server's
# port in that range would sooner or later connect to itself.
lvt_free_ports() {
    /usr/bin/python3 - "$1" <<'PY'
import random, socket, sys

with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
    low, high = map(int, file.read().split())
candidates = [port for port in range(10000, 60000) if not low <= port <= high]
held = []
while len(held) < int(sys.argv[1]):
    sock = socket.socket()
    try:
        sock.bind(("127.0.0.1", random.choice(candidates or range(10000, 60000))))
        held.append(sock)
    except OSError:
        sock.close()
print(*(sock.getsockname()[1] for sock in held))
PY
}

# lvt_proc_start PID: prints when that process started, in ticks since boot. With the process id it
# names one process for good: ids are used again. A zombie has ended already and has no start.
lvt_proc_start() {
    local stat
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
    stat=${stat##*) } # the name before it may contain anything, spaces and brackets included
    # shellcheck disable=SC2086
    set -- $stat
    [ "$1" != Z ] && [ "$1" != X ] && printf '%s\n' "${20}"
}

# lvt_proc_is PID START: whether that very process is still running.
lvt_proc_is() { [ -n "$2" ] && [ "$(lvt_proc_start "$1")" = "$2" ]; }

# lvt_all_gone LIST, of lines "pid start"
lvt_all_gone() {
    local pid start
    while read -r pid start; do
        if lvt_proc_is "$pid" "$start"; then return 1; fi
    done <<<"$1"
}

# lvt_proc_tree PID: prints "pid start" of each descendant of the process.
lvt_proc_tree() {
    local -A children=()
    local file stat pid queue=("$1")
    for file in /proc/[0-9]*/stat; do
        { read -r stat <"$file"; } 2>/dev/null || continue
        pid=${stat%% *}
        stat=${stat##*) }
        stat=${stat#* }
        children[${stat%% *}]+=" $pid"
    done
    while [ ${#queue[@]} -gt 0 ]; do
        for pid in ${children[${queue[0]}]:-}; do
            queue+=("$pid")
            stat=$(lvt_proc_start "$pid") && printf '%s %s\n' "$pid" "$stat"
        done
        queue=("${queue[@]:1}")
    done
}

# lvt_claim_slot BASE: takes the first of the folders BASE/1, BASE/2, ... that no running script
# holds, sets LVT_SLOT to it, and ends what killed runs have left behind in the ones that are free.
# The kernel gives it back when this shell ends, however it ends; whatever outlives the shell must
# therefore not inherit its file descriptor 7.
lvt_claim_slot() {
    local number lock
    mkdir -p "$1" || return
    LVT_SLOT=
    for number in 1 2 3 4 5 6 7 8 9; do
        lock=$1/$number.lock
        if [ -z "$LVT_SLOT" ]; then
            exec 7>>"$lock" || return
            flock -n 7 || continue
            lvt_clear_slot "$1/$number" 7>&-
            LVT_SLOT=$1/$number
            mkdir -p "$LVT_SLOT"
        elif [ -d "$1/$number" ]; then
            (flock -n 6 && lvt_clear_slot "$1/$number" 6>&- 7>&-) 6>>"$lock"
        fi
    done
    if [ -z "$LVT_SLOT" ]; then
        lvt_warn "nine other runs hold the folders 1 to 9 in $1: wait for one to end"
        return 1
    fi
}

# lvt_stop_services SLOT: its servers, and those of tests that ran at once.
lvt_stop_services() {
    local services
    for services in "$1"/services*; do
        if [ -d "$services" ]; then "$LVT_ROOT/tests/services.sh" stop "$services"; fi
    done
}

# lvt_clear_slot DIR: ends the workers whose program lies in DIR, and the servers of DIR/services.
lvt_clear_slot() {
    local exe pid workers=
    [ -d "$1" ] || return 0
    for exe in /proc/[0-9]*/exe; do
        case $(readlink "$exe" 2>/dev/null) in
            "$1"/*)
                pid=${exe#/proc/}
                pid=${pid%/exe}
                kill -s TERM "$pid" 2>/dev/null && workers+="$pid $(lvt_proc_start "$pid")"$'\n'
                ;;
        esac
    done
    if ! lvt_wait 10 "the workers of an earlier run to end" lvt_all_gone "$workers"; then
        while read -r pid exe; do
            if lvt_proc_is "$pid" "$exe"; then kill -s KILL "$pid" 2>/dev/null; fi
        done <<<"$workers"
    fi
    lvt_stop_services "$1"
}

# lvt_build DIR TARGETS CMAKE-OPTION...: configures and builds. TARGETS is a list in one word, 'all'
# for everything. The lock makes two runs in one checkout build one after the other.
lvt_build() {
    local dir=$1 targets=$2
    shift 2
    mkdir -p "$dir" || return
    (
        if ! flock -n 9; then
            lvt_note "waiting for another run that builds in $dir ..."
            flock 9
        fi
        lvt_note "compiling in $dir (a minute or so when nothing is there yet) ..."
        # shellcheck disable=SC2086
        {
            cmake -S "$LVT_ROOT" -B "$dir" "$@" &&
                cmake --build "$dir" --target $targets --parallel "$(nproc)"
        } >"$dir.log" 2>&1 9>&- || {
            tail -n 60 "$dir.log"
            exit 1
        }
    ) 9>>"$dir.lock"
}
