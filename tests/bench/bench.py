#!/usr/bin/env python3
"""The benchmark. Run it through run.sh, which starts the servers and builds what is measured."""
import argparse
import pathlib
import platform
import sys

sys.dont_write_bytecode = True

from bench import goals, growth, latency, report, scenes, tuning  # noqa: E402
from bench.contenders import main_names  # noqa: E402
from bench.progress import Progress  # noqa: E402
from bench.race import chosen, race  # noqa: E402
from bench.site import Site  # noqa: E402

KINDS = ("quorum", "classic")


def run_latency(site, progress, quick):
    rates = (200,) if quick else (200, 2000)
    seconds = 6 if quick else 20
    runs = [(f"leveret, {kind}", lambda rate, kind=kind:
             latency.of_leveret(site, rate, seconds, kind)) for kind in KINDS]
    for prefetch in (1, 10):
        runs.append((f"Node, prefetch {prefetch}, classic", lambda rate, prefetch=prefetch:
                     latency.of_seed(site, rate, seconds, "classic", prefetch)))
    found = {}
    progress.expect(len(rates) * len(runs))
    for rate in rates:
        for name, measure in runs:
            with progress.step(f"latency at {rate}/s: {name}"):
                found[f"latency at {rate}/s: {name} (ms)"] = measure(rate)
    return found


def run_scenes(site, progress, quick):
    count = 20000 if quick else 100000
    table = {
        "start and memory": lambda: scenes.start_and_memory(site, count),
        "a thousand waits of 100 ms": lambda: scenes.http_waits(site, count),
        "beside a retry storm": lambda: scenes.retry_storm(site, count, 5 if quick else 20),
        "a classic queue that has rested": lambda: scenes.rested_queue(site, count,
                                                                       1 if quick else 3),
        "killed at a random moment": lambda: scenes.killed(site, count // 5),
        "lanes": lambda: scenes.lanes(site, count),
    }
    if not quick:
        table["a full ledger"] = lambda: scenes.full_ledger(site, count, 10_000_000)
    progress.expect(len(table))
    found = {}
    for name, scene in table.items():
        with progress.step(name):
            found[name] = scene()
    return found


def run_growth(site, progress, quick):
    """With --quick each goes a tenth or a hundredth of the way."""
    most = 4 if quick else 6
    powers = [10**n for n in range(7)]
    series = {
        "messages that wait in the queue": growth.queue_depth(site, powers[3:most + 1]),
        "bytes of a body": growth.body_bytes(
            site, [100, 1000, 10**4, 10**5, 2**20 - 400], 10 if quick else 100),
        "handler files": growth.handler_files(
            site, powers[:3 if quick else 4], 5000 if quick else 50000),
        "events in flight, 20 ms each": growth.in_flight(site, powers[:most - 1], 100000),
        "rows of the ledger": growth.ledger_rows(
            site, [0, 10**5, 10**6] + ([] if quick else [10**7]), 5000 if quick else 50000),
        "keys in Redis, one pattern an event": growth.keyspace(
            site, powers[2:most + 1], 2000 if quick else 20000),
    }
    return run_series(progress, series)


def run_tuning(site, progress, quick):
    count, slow = (20000, 5000) if quick else (100000, 20000)
    return run_series(progress, {
        "prefetch, quorum": tuning.prefetch(site, [10, 50, 200, 500, 2000], count, "quorum"),
        "prefetch, classic": tuning.prefetch(site, [10, 50, 200, 500, 2000], count, "classic"),
        "concurrency, 20 ms each": tuning.concurrency(site, [10, 100, 1000], count),
        "pool, one UPDATE an event": tuning.pool(site, [1, 2, 4, 8, 16], slow),
        "lanes": tuning.lanes(site, [1, 2, 4], count, "lua"),
        "lanes, one UPDATE an event": tuning.lanes(site, [1, 2, 4], slow, "db"),
        "log.level": tuning.log_level(site, ["info", "warn"], count),
    })


def run_series(progress, series):
    found = {}
    for name, points in series.items():
        found[name] = []
        progress.expect(1)
        with progress.step(name):
            for at, rate in points:
                found[name].append((at, rate))
                progress.note(report.point(at, rate))
    return found


def machine():
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return {"processor": models[0] if models else platform.machine(), "cores": len(models)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--quick", action="store_true", help="fewer of everything: five minutes")
    parser.add_argument("--growth", action="store_true", help="only the table of growth")
    parser.add_argument("--tuning", action="store_true", help="only the tables of the tuning page")
    parser.add_argument("--only", action="append", default=[], metavar="WORD",
                        help="only contenders whose name has it, and nothing but the race")
    parser.add_argument("--count", type=int, help="messages to drain")
    parser.add_argument("--repeats", type=int)
    options = parser.parse_args()
    contenders = chosen(options.only)
    if not contenders:
        parser.error("none has that in its name; they are: " +
                     "; ".join(one.name for one in chosen([])))
    site, progress, names = Site(options.build), Progress(), main_names()
    document = {"machine": machine() | site.servers()}
    if options.growth:
        document["series"] = run_growth(site, progress, options.quick)
    elif options.tuning:
        document["series"] = run_tuning(site, progress, options.quick)
    else:
        count = options.count or (20000 if options.quick else 100000)
        repeats = options.repeats or (1 if options.quick else 3)
        rates, missing = race(site, progress, contenders, KINDS, count, repeats)
        document |= {"drained": {one.name: one.events(count) for one in contenders},
                     "rates": rates, "missing": missing, "goals": goals.of_race(rates)}
        if not options.only:
            document["scenes"] = run_scenes(site, progress, options.quick) | \
                run_latency(site, progress, options.quick)
            document["goals"] += goals.of_scenes(document["scenes"])
        report.write_chart(options.build / "bench.svg", rates)
    report.write_json(options.build / "bench.json", document)
    lines = ["; ".join(f"{what} {value}" for what, value in document["machine"].items()), ""]
    if "rates" in document:
        lines += [*report.race_lines(document["rates"], document["missing"], document["drained"],
                                     names), "", *report.goal_lines(document["goals"])]
    lines += [*report.scene_lines(document.get("scenes", {})),
              *report.series_lines(document.get("series", {}))]
    print(*lines, sep="\n")
    print(f"\nwritten: {options.build / 'bench.json'}" +
          (f", {options.build / 'bench.svg'}" if "rates" in document else ""))


if __name__ == "__main__":
    main()
