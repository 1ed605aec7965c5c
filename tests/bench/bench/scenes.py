"""What a race does not show: waits, retries, memory, starts, lanes, a full ledger, a killed worker."""
import random
import time

from bench.leveret import Worker, handlers
from bench.site import QUEUE
from bench.waiter import Waiter

LANES = (1, 2)


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


def retry_storm(site, count):
    """Healthy events on one queue, alone and beside another queue where every event fails."""
    folder = site.work / "storm"
    folder.mkdir(exist_ok=True)
    healthy = (handlers("lua") / "ticket.created.lua").read_text()
    (folder / "ticket.created.lua").write_text(healthy)
    alone = None
    for failing in (False, True):
        site.new_database("leveret")
        site.new_queue("quorum")
        site.new_queue("quorum", QUEUE + ".failing")
        if failing:
            (folder / "failing.lua").write_text(
                f'return {{ queue = "{QUEUE}.failing", bind = false, events = {{ "#" }},\n'
                '  retry = { max = 100, base_ms = 250, cap_ms = 1000 },\n'
                '  handle = function() error("on purpose") end }\n')
            site.fill(2000, 300, QUEUE + ".failing")
        site.fill(count)
        worker = Worker(site, folder, log={"level": "error"}).start()
        rate = worker.rate(count)
        worker.stop()
        alone = alone or rate
    return {"events/s alone": alone, "events/s beside": rate, "ratio": rate / alone}


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
    """A ledger of many rows against an empty one."""
    result = {}
    for size in (0, rows):
        for ids in ("v4", "v7"):
            if size == 0 or ids == "v4":
                site.new_database("leveret")
                site.fill_ledger(size)
            result[f"events/s, {size:,} rows, UUID{ids}"] = _drain(
                site, count, fill=("--ids", ids))[0]
    for ids in ("v4", "v7"):
        result[f"ratio, UUID{ids}"] = (result[f"events/s, {rows:,} rows, UUID{ids}"] /
                                       result[f"events/s, 0 rows, UUID{ids}"])
    return result


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
    worker.start()
    deadline = time.monotonic() + 120
    while site.rows() < count and time.monotonic() < deadline:
        time.sleep(0.1)
    worker.stop()
    site.check_empty()
    lost, doubled = count - site.rows(), site.tickets() - count
    if lost or doubled:
        raise RuntimeError(f"killed after {moment}: {lost} lost, {doubled} updates too many")
    return {"killed after events": moment, "lost": lost, "doubled in the database": doubled}
