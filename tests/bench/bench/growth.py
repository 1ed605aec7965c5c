"""How the rate changes as one thing grows and everything else stays."""
import json
import statistics

import redis

from bench.leveret import Worker, handlers
from bench.site import QUEUE


def rate(site, count, body_bytes=300, folder=None, kind="quorum", **sections):
    site.new_queue(kind)
    site.fill(count, body_bytes)
    worker = Worker(site, folder or handlers("lua"), **sections).start()
    found = worker.rate(count)
    worker.stop()
    site.check_empty()
    return found


def queue_depth(site, depths):
    """Short drains are over before their rate is known well: of those, several."""
    for depth in depths:
        found = []
        for _ in range(5 if depth <= 10000 else 1):
            site.new_database("leveret")
            found.append(rate(site, depth))
        yield depth, statistics.median(found)


def body_bytes(site, sizes, megabytes):
    """The same amount of data each time, with a window that fits into memory."""
    for size in sizes:
        count = max(200, min(50000, megabytes * 1000000 // size))
        site.new_database("leveret")
        yield size, rate(site, count, size, max_body_bytes=2 << 20)


def handler_files(site, numbers, count):
    """All on queues of their own; the events come to one of them."""
    for number in numbers:
        folder = site.work / f"files-{number}"
        folder.mkdir()
        text = (handlers("lua") / "ticket.created.lua").read_text()
        (folder / "ticket.created.lua").write_text(text)
        for i in range(1, number):
            (folder / f"other.{i}.lua").write_text("return function() end\n")
        site.new_database("leveret")
        yield number, rate(site, count, folder=folder, rabbitmq={"queue_type": "quorum"})
        for i in range(1, number):
            site.delete_queue(f"other.{i}.queue")


def in_flight(site, numbers, count):
    """Handlers that wait 20 ms each, so many at a time."""
    for number in numbers:
        folder = site.work / f"flight-{number}"
        folder.mkdir()
        (folder / "ticket.created.lua").write_text(
            f'return {{ queue = "{QUEUE}", bind = false, concurrency = {number},\n'
            '  handle = function(event, ctx) ctx.sleep(20) end }\n')
        site.new_database("leveret")
        yield number, rate(site, min(count, max(500, number * 40)), folder=folder,
                            ledger={"max_claims": 20000} if number > 1000 else {})


def ledger_rows(site, sizes, count):
    for size in sizes:
        site.new_database("leveret")
        site.fill_ledger(size)
        yield size, rate(site, count)


def keyspace(site, sizes, count):
    """Every event invalidates a pattern that fits one key among so many."""
    client = redis.Redis.from_url(site.redis_url)
    folder = site.work / "keyspace"
    folder.mkdir()
    (folder / "ticket.created.lua").write_text(
        f'return {{ queue = "{QUEUE}", bind = false,\n'
        '  handle = function(event, ctx) ctx.cache.invalidate("tickets:list:*") end }\n')
    for size in sizes:
        client.flushdb()
        with client.pipeline(transaction=False) as pipe:
            for n in range(size):
                pipe.set(f"other:{n}", json.dumps(n))
                if n % 10000 == 9999:
                    pipe.execute()
            pipe.execute()
        client.set("tickets:list:1", "x")
        site.new_database("leveret")
        # A walk through all keys serves all events that wait for one: few walks tell the rate.
        events = max(2000, min(count, count * 10000 // size))
        yield size, rate(site, events, folder=folder, log={"level": "error"})
    client.flushdb()
