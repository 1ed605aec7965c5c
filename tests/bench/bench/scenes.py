"""What a race does not show: waits, retries, memory, starts, lanes, a full ledger, a killed worker."""
import json
import random
import shutil
import statistics
import time

from bench import latency
from bench.contenders import all_contenders, main_names
from bench.leveret import Worker, handlers
from bench.site import QUEUE
from bench.waiter import Waiter

LANES = (1, 2)
REPEATS = 3


def _drain(site, count, folder="lua", kind="quorum", fill=(), **sections):
    site.new_queue(kind)
    site.fill(count, 300, QUEUE, *fill)
    worker = Worker(site, handlers(folder), **sections).start()
    rate = worker.rate(count)
    memory_kib = worker.memory_kib()
    worker.stop()
    site.check_empty()
    return rate, memory_kib


def http_waits(site, count):
    """A thousand handlers that wait 100 ms each for HTTP. What they take in memory is what the same
    worker has more than one that has not begun."""
    waiter = Waiter(site)
    folder = site.work / "http"
    folder.mkdir(exist_ok=True)
    (folder / "ticket.created.lua").write_text(
        f'return {{ queue = "{QUEUE}", bind = false, concurrency = 1000,\n'
        f'  handle = function(event, ctx)\n    ctx.http.request{{ url = "{waiter.url}" }}\n'
        f'  end }}\n')
    site.new_queue("quorum")
    site.new_database("leveret")
    worker = Worker(site, folder).start()
    try:
        worker.wait_consuming()
        before_kib = worker.memory_kib()
        site.fill(count)
        worker.wait_processed(count // 2)
        memory_kib = worker.memory_kib()
        rate = worker.rate(count)
    finally:
        worker.stop()
        waiter.close()
    site.check_empty()
    return {"events/s": rate, "resident MiB": memory_kib / 1024,
            "MiB for a thousand waiting handlers": (memory_kib - before_kib) / 1024}


STORM_QUEUE = QUEUE + ".failing"
STORM_EVENTS = 2000
STORM_BODY_BYTES = 200  # too small to say when it was sent: the probe of latencies passes over them
STORM_RATE = 200


def _retries(worker):
    return json.loads(worker.get("/metrics.json"))["retried"]


def _storm_drain(site, folder, count):
    """Events a second of the healthy, and failed attempts a second beside them."""
    site.fill(count)
    worker = Worker(site, folder, log={"level": "error"}).start()
    begin_s, before = time.monotonic(), _retries(worker)
    rate = worker.rate(count)
    attempts = (_retries(worker) - before) / (time.monotonic() - begin_s)
    worker.stop()
    site.check_empty()
    if site.rows() != count:
        raise RuntimeError(f"{site.rows()} rows for {count} healthy events")
    return rate, attempts


def _storm_latency(site, folder, seconds):
    """At a steady rate that leaves the machine idle most of the time."""
    probe = latency.Probe(site)
    worker = Worker(site, folder, log={"level": "error"}, rabbitmq={"url": probe.url}).start()
    try:
        worker.wait_consuming()
        begin_s, before = time.monotonic(), _retries(worker)
        found = latency.measure(site, probe, STORM_RATE, seconds)
        attempts = (_retries(worker) - before) / (time.monotonic() - begin_s)
    finally:
        worker.stop()
        probe.close()
    site.check_empty()
    return found, attempts


def retry_storm(site, count, seconds):
    """Healthy events on one queue, alone and beside another queue where every event fails, again
    and again, a second apart. A drain takes all that the machine has, so that the storm's share of the
    broker is missing there; the latency at a modest rate shows whether anybody waits for it."""
    result = {}
    for failing in (False, True):
        name = "beside" if failing else "alone"
        folder = site.work / f"storm-{name}"
        folder.mkdir()
        shutil.copy(handlers("lua") / "ticket.created.lua", folder)
        site.new_database("leveret")
        site.new_queue("quorum", STORM_QUEUE)
        site.new_queue("quorum")
        if failing:
            (folder / "failing.lua").write_text(
                f'return {{ queue = "{STORM_QUEUE}", bind = false, events = {{ "#" }},\n'
                '  retry = { max = 1000, base_ms = 1000, cap_ms = 1000 },\n'
                '  handle = function() error("on purpose") end }\n')
            site.fill(STORM_EVENTS, STORM_BODY_BYTES, STORM_QUEUE)
        result[f"events/s {name}"], attempts = _storm_drain(site, folder, count)
        if failing:
            result["failed attempts/s beside the drain"] = attempts
        found, attempts = _storm_latency(site, folder, seconds)
        result |= {f"{share} at {STORM_RATE}/s {name} (ms)": found[share] for share in found}
    result[f"failed attempts/s beside {STORM_RATE}/s"] = attempts
    result["ratio"] = result["events/s beside"] / result["events/s alone"]
    time.sleep(2)  # what still waits for its retry comes home before its queue goes
    site.delete_queue(STORM_QUEUE)
    return result


def rested_queue(site, count, repeats):
    """A classic queue that nothing has happened to for a while: RabbitMQ serves it faster than one
    in service, as those of the race are."""
    found, ours = {}, main_names()["ours"]
    bare = main_names()["bare"]
    names = (bare, ours, ours + ", prefetch 2000")
    for _ in range(repeats):
        for contender in all_contenders():
            if contender.name in names:
                found.setdefault(contender.name, []).append(
                    contender.run(site, "classic", count, rested=True))
    medians = {name: statistics.median(values) for name, values in found.items()}
    return {f"events/s, {name}": rate for name, rate in medians.items()} | \
        {f"ratio, {name}": medians[name] / medians[bare] for name in names[1:]}


def start_and_memory(site, count):
    """From the start of the process to its first event; memory with nothing to do, and amid events.
    A lane has a supervisor beside it."""
    site.new_queue("quorum")
    site.new_database("leveret")
    site.fill(1)
    worker = Worker(site, handlers("lua")).start()
    while worker.processed() < 1:
        time.sleep(0.002)
    first_s = time.monotonic() - worker.started_s
    time.sleep(2)
    rest_kib = worker.memory_kib()
    site.fill(count)
    worker.wait_processed(1 + count // 2)
    load_kib = worker.memory_kib()
    worker.stop()
    return {"ms to the first event": first_s * 1000, "resident MiB at rest": rest_kib / 1024,
            "resident MiB under load": load_kib / 1024}


def lanes(site, count):
    result = {}
    for number in LANES:
        site.new_database("leveret")
        rate, memory_kib = _drain(site, count, lanes=number)
        result[f"events/s, {number} lanes"] = rate
        result[f"resident MiB, {number} lanes"] = memory_kib / 1024
    return result


def full_ledger(site, count, rows):
    """A ledger of many rows against an empty one, in alternation."""
    aside, found = "bench_full", {}
    site.new_database("leveret")
    site.fill_ledger(rows)
    site.rename_database("bench", aside)
    for _ in range(REPEATS):
        for ids in ("v4", "v7"):
            site.new_database("leveret")
            found.setdefault((0, ids), []).append(_drain(site, count, fill=("--ids", ids))[0])
            site.rename_database(aside, "bench")
            found.setdefault((rows, ids), []).append(_drain(site, count, fill=("--ids", ids))[0])
            site.rename_database("bench", aside)
    site.sql(f'drop database "{aside}"', database="postgres")
    medians = {case: statistics.median(rates) for case, rates in found.items()}
    return {f"events/s, {size:,} rows, UUID{ids}": medians[size, ids] for size, ids in medians} | \
        {f"ratio, UUID{ids}": medians[rows, ids] / medians[0, ids] for ids in ("v4", "v7")}


def killed(site, count):
    """The worker is killed at a random moment. Nothing may be lost: every event has its row, and
    the transaction that goes with it was committed once."""
    site.new_queue("quorum")
    site.new_database("leveret")
    site.fill(count)
    worker = Worker(site, handlers("db")).start()
    moment = random.randint(1, count * 9 // 10)
    worker.wait_processed(moment)
    worker.kill()
    done = site.rows()
    worker.start()
    deadline = time.monotonic() + 120
    while site.rows() < count and time.monotonic() < deadline:
        time.sleep(0.1)
    worker.stop()
    site.check_empty()
    lost, doubled = count - site.rows(), site.tickets() - count
    if lost or doubled or done == count:
        raise RuntimeError(f"killed when {done} of {count} were recorded: {lost} lost, "
                           f"{doubled} updates too many")
    return {"recorded when it was killed": done, "still to do then": count - done, "lost": lost,
            "doubled in the database": doubled}
