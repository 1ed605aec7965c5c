"""Handlers in Lua that go over their limits, and those beside them."""
import threading
import time

import pytest

from harness.broker import Broker
from harness.waiting import wait

ONCE = {"max": 1, "base_ms": 250}
COUNT = 800


def latencies_ms(site, count):
    """From publish to the handler, of events that come every 5 ms."""
    sent = {}
    for number in range(count):
        at = time.time()
        sent[site.publish("small.event", {"number": number}, confirm=False)] = at
        time.sleep(max(0, 0.005 - (time.time() - at)))
    marks = site.wait_marks(count, type="small.event")
    site.redis.delete(site.marks_key)
    return sorted(mark["at_us"] / 1e3 - sent[mark["id"]] * 1e3 for mark in marks)


def p99(latencies):
    return latencies[len(latencies) * 99 // 100]


def stretch():
    """How many times longer than its processor time something takes on this machine now."""
    begun, used = time.time(), time.process_time()
    while time.process_time() - used < 0.2:
        pass
    return (time.time() - begun) / 0.2


def outcomes(worker, event_type):
    return [line for line in worker.log.records()
            if line.get("event") == event_type and "reason" in line and "duration_ms" in line]


def test_an_endless_handler_is_stopped_and_others_hardly_notice(site):
    site.handler("small.event", "mark(event, ctx)")
    site.handler("spin.event", "while true do pcall(function() while true do end end) end",
                 retry=ONCE)
    worker = site.worker(log={"level": "info"})
    latencies_ms(site, 100)
    usual = latencies_ms(site, COUNT)
    stretches = [stretch()]
    over = threading.Event()

    def keep_spinning():
        mine = Broker(site.services.rabbitmq_url)
        while not over.is_set():
            mine.publish("", site.queue("spin.event"), '{"event": "spin.event", "payload": {}}')
            over.wait(1.0)
        mine.close()

    spinner = threading.Thread(target=keep_spinning)
    spinner.start()
    beside = latencies_ms(site, COUNT)
    stretches.append(stretch())
    over.set()
    spinner.join()
    stopped = outcomes(worker, "spin.event")
    durations = [line["duration_ms"] for line in stopped]
    print(f"usual p50 {usual[COUNT // 2]:.1f} p99 {p99(usual):.1f} ms; beside an endless handler "
          f"p50 {beside[COUNT // 2]:.1f} p99 {p99(beside):.1f} ms; stopped after {durations} ms, "
          f"stretched by {stretches}")
    assert len(stopped) >= 3
    assert all("budget_ms = 200" in line["reason"] for line in stopped)
    assert min(durations) <= 300 * max(stretches), stretches
    assert p99(beside) < 2 * p99(usual) + 10


@pytest.mark.parametrize("body, reason", [
    ("while true do end", "budget_ms = 100"),
    ("string.find(('a'):rep(300), ('a*'):rep(20) .. 'b')", "budget_ms = 100"),
    ("while true do pcall(error) end", "budget_ms = 100"),
    ("local t = {} while true do t[#t + 1] = {} end", "memory_kb is 1024"),
    ("local function f() return f() + 1 end f()", "stack overflow"),
    ("setmetatable({}, { __gc = print })", "__gc is not allowed"),
    ("table.sort({2, 1}, function() ctx.sleep(1) end)", "cannot wait here"),
])
def test_a_breach_is_a_failed_attempt_with_its_reason(site, body, reason):
    memory_kb = 131072 if "overflow" in reason else 1024
    site.handler("bad.event", body, retry=ONCE, memory_kb=memory_kb,
                 budget_ms=5000 if "budget" not in reason else 100)
    site.handler("good.event", "mark(event, ctx)")
    site.worker()
    event = site.publish("bad.event")
    dead = site.dead()
    assert dead.properties.message_id == event
    assert reason in dead.header("leveret-error")
    assert dead.header("leveret-attempt") == 2
    good = site.publish("good.event")
    site.wait_marks(1, id=good)


def test_sigterm_ends_a_worker_with_an_endless_handler(site):
    site.handler("spin.event", "mark(event, ctx) while true do end", budget_ms=60000)
    worker = site.worker(shutdown_timeout_ms=500)
    event = site.publish("spin.event")
    site.wait_marks(1, id=event)
    worker.stop()
    wait("the event back in its queue", lambda: site.broker.depth(site.queue("spin.event")) == 1)
