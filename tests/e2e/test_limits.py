"""Concurrency, rates, timeouts, and handlers that never seem to end."""
import pathlib
import re

import pytest

from harness.waiting import wait

GAUGE = """
local running = ctx.redis.incr(MARKS .. ':gauge')
ctx.redis.rpush(MARKS .. ':seen', running)
ctx.sleep(100)
ctx.redis.decr(MARKS .. ':gauge')
mark(event, ctx)
"""


def test_no_more_runs_at_once_than_the_concurrency(site):
    site.handler("work.three", GAUGE, concurrency=3)
    worker = site.worker()
    for _ in range(30):
        site.publish("work.three", confirm=False)
    site.wait_marks(30)
    seen = [int(number) for number in site.redis.lrange(site.marks_key + ":seen", 0, -1)]
    site.redis.delete(site.marks_key + ":seen", site.marks_key + ":gauge")
    assert max(seen) == 3
    site.assert_settled(worker)


def test_a_handlers_limit_is_its_own(site):
    """Two handlers of one queue: the first at its limit does not hold up the second."""
    site.handler("work.slow", "mark(event, ctx, 'start') ctx.sleep(60000)", concurrency=1,
                 queue=site.queue("both"))
    site.handler("work.quick", "mark(event, ctx)", concurrency=1, queue=site.queue("both"))
    site.worker(shutdown_timeout_ms=100)
    for _ in range(5):
        site.publish("work.slow")
    quick = {site.publish("work.quick") for _ in range(20)}
    marks = site.wait_marks(20, type="work.quick")
    assert {mark["id"] for mark in marks} == quick
    assert len(site.marks(type="work.slow")) == 1


def test_a_rate_holds_events_back(site):
    site.handler("work.rated", "mark(event, ctx)", rate=20)
    site.handler("work.free", "mark(event, ctx)")
    worker = site.worker()
    for _ in range(70):
        site.publish("work.rated", confirm=False)
    free = site.publish("work.free")
    site.wait_marks(1, id=free)
    assert len(site.marks(type="work.rated")) < 70, "the rate of one holds up no other"
    marks = site.wait_marks(70, type="work.rated")
    at = [mark["at_us"] / 1e6 for mark in marks]
    for begin in at:
        within = sum(begin <= time < begin + 1 for time in at)
        assert within <= 41, f"{within} in one second, a full bucket of 20 and 20 more allowed"
    assert at[-1] - at[0] >= (70 - 20 - 1) / 20 - 0.1
    site.assert_settled(worker)


@pytest.fixture(scope="module")
def slow(shared):
    once = {"max": 1, "base_ms": 250}
    shared.handler("late.sleep", "mark(event, ctx) ctx.sleep(60000) mark(event, ctx, 'end')",
                   timeout_ms=300, retry=once)
    shared.handler("late.http", """
        mark(event, ctx)
        ctx.http.request{url = event.payload .. '/slow/20000', timeout_ms = 30000}""",
                   timeout_ms=300, retry=once)
    shared.handler("late.db", "mark(event, ctx) ctx.db.query('select pg_sleep(20)')",
                   timeout_ms=300, retry=once)
    shared.handler("late.caught", """
        mark(event, ctx)
        while true do pcall(ctx.sleep, 60000) end""", timeout_ms=300, retry=once)
    shared.handler("work.good", "ctx.db.query('select 1') mark(event, ctx)")
    worker = shared.worker(shutdown_timeout_ms=500)
    shared.wait_marks(1, id=shared.publish("work.good"))  # late.db finds a connection at once
    return worker


@pytest.mark.parametrize("event_type", ["late.sleep", "late.http", "late.db", "late.caught"])
def test_a_timeout_is_a_failed_attempt_with_a_reason(shared, slow, web, event_type):
    event = shared.publish(event_type, web.url)
    dead = shared.dead()
    assert dead.properties.message_id == event
    assert [mark["attempt"] for mark in shared.marks(id=event)] == [1, 2]
    assert re.search(r"time|300 ms|timeout_ms", dead.header("leveret-error"))
    assert dead.header("leveret-attempt") == 2
    good = shared.publish("work.good")
    shared.wait_marks(1, id=good)


def asleep_while_others_finish(site, count):
    site.handler("work.any", """
        if event.payload.asleep then mark(event, ctx, 'asleep') ctx.sleep(600000) end
        ctx.redis.rpush(MARKS .. ':done', event.id)""", timeout_ms=700000, concurrency=50)
    worker = site.worker(rabbitmq={"prefetch": 100}, shutdown_timeout_ms=500,
                         log={"level": "info"})
    done = site.marks_key + ":done"
    sleeper = site.publish("work.any", {"asleep": True})
    site.wait_marks(1, id=sleeper)
    ids = {site.publish("work.any", {}, confirm=False) for _ in range(count)}
    wait(f"{count} others", lambda: site.redis.llen(done) >= count, 30 + count / 100)
    seen = site.redis.lrange(done, 0, -1)
    site.redis.delete(done)
    assert len(seen) == count and set(seen) == ids
    wait("their records", lambda: site.rows("select count(*) from processed_events") == [(count,)])
    worker.stop()
    wait("the sleeper back in its queue",
         lambda: site.broker.depth(site.queue("work.any")) == 1)
    assert site.broker.get(site.queue("work.any")).properties.message_id == sleeper


def test_others_finish_while_one_handler_sleeps_for_ten_minutes(site):
    """More than the window holds, so that the finished ones above the gap must be acked."""
    asleep_while_others_finish(site, 1000)


@pytest.mark.full
def test_20000_others_finish_while_one_handler_sleeps_for_ten_minutes(site):
    asleep_while_others_finish(site, 20000)


def test_bodies_over_the_limit_share_one_budget(site):
    """In a queue that cannot reject, such bodies are kept until they are dead letters: 128 MiB
    together, not each."""
    queue = site.queue("huge.event")
    site.broker.declare_exchange(site.exchange)
    site.broker.declare(queue, bind=(site.exchange, "huge.event"))  # classic, without arguments
    body = b"x" * (25 << 20)
    ids = {f"huge-{number}" for number in range(16)}
    for name in ids:
        site.broker.publish("", queue, body, message_id=name)
    site.handler("huge.event", "", queue_type="classic")
    # Freed memory that a sanitizer keeps for a while is not the worker's.
    worker = site.worker(env={"ASAN_OPTIONS": "quarantine_size_mb=8"})
    found = {}
    while len(found) < len(ids):
        letter = site.dead(timeout_s=60)
        found[letter.properties.message_id] = len(letter.body)
    assert found == dict.fromkeys(ids, len(body))
    status = pathlib.Path("/proc", str(worker.process.pid), "status").read_text()
    peak_kb = int(re.search(r"VmHWM:\s+(\d+)", status)[1])
    assert peak_kb < 300 * 1024, f"{peak_kb} KiB for {len(ids) * len(body) >> 10} KiB of bodies"
    site.assert_settled(worker)
