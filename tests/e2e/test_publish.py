"""Events that handlers and people publish: confirmed, with their wishes, and with delays."""
import json

import pytest

from harness.waiting import wait

SECOND_US = 1_000_000


@pytest.fixture(scope="module")
def worker(shared):
    shared.handler("order.asked", """
        local id = ctx.publish(event.payload.event, event.payload.payload, event.payload.options)
        mark(event, ctx, id)""")
    shared.handler("order.wrong", """
        local payload = event.payload.payload
        if event.payload.size then payload = {n = string.rep('x', event.payload.size)} end
        local ok, why = pcall(ctx.publish, event.payload.event, payload, event.payload.options)
        mark(event, ctx, {ok = ok, why = tostring(why)})""", concurrency=10)
    shared.handler("order.made", """
        mark(event, ctx, {exchange = event.exchange, key = event.routing_key, n = event.payload.n,
                          headers = event.headers, priority = event.priority})""")
    return shared.worker()


def ask(shared, event, payload=None, trace=None, **options):
    """Has a handler publish; returns the id that it was told."""
    asked = shared.publish("order.asked", {"event": event, "payload": payload, "options": options},
                           headers={"traceparent": trace} if trace else None)
    return shared.wait_marks(1, id=asked)[0]["note"]


def refusal(shared, event="order.made", payload=None, **options):
    asked = shared.publish("order.wrong",
                           {"event": event, "payload": payload or {}, "options": options})
    note = shared.wait_marks(1, id=asked)[0]["note"]
    assert not note["ok"]
    return note["why"]


def made(shared, event_id, timeout_s=30):
    return shared.wait_marks(1, timeout_s, id=event_id, type="order.made")[0]


def test_a_published_event_is_handled(shared, worker):
    event_id = ask(shared, "order.made", {"n": 1})
    note = made(shared, event_id)["note"]
    assert (note["exchange"], note["key"], note["n"]) == (shared.exchange, "order.made", 1)
    assert event_id[14] == "7"
    assert worker.metric("leveret_published_total", event="order.made", outcome="confirmed") >= 1


def test_wishes_and_the_trace_arrive(shared, worker):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    event_id = ask(shared, "order.made", {"n": 2}, trace, id="own-1", priority=4, max_attempts=9,
                   headers={"x-own": 1.5})
    assert event_id == "own-1"
    note = made(shared, event_id)["note"]
    assert note["priority"] == 4
    assert note["headers"]["traceparent"] == trace
    assert note["headers"]["leveret-max-attempts"] == 9
    assert note["headers"]["x-own"] == 1.5


def test_a_publish_straight_to_a_queue(shared, worker):
    event_id = ask(shared, "order.made", {"n": 3}, queue=shared.queue("order.made"))
    assert made(shared, event_id)["note"]["exchange"] == ""


@pytest.mark.parametrize("options, why", [
    ({"exchange": "no.such.exchange"}, "no.such.exchange"),
    ({"queue": "no.such.queue"}, "no queue took it"),
    ({"priority": -1}, "priority must be a whole number from 0"),
    ({"max_attempts": 0}, "max_attempts must be a whole number from 1"),
    ({"max_attempts": 10**9}, "limits.max_attempts is 100"),
    ({"delay_ms": 31 * 86400 * 1000}, "limits.max_delay"),
    ({"delay_ms": -1}, "delay_ms"),
    ({"headers": {"leveret-attempt": 1}}, "leveret's own"),
])
def test_what_cannot_be_published_is_an_error(shared, worker, options, why):
    assert why in refusal(shared, **options)


def test_a_payload_that_is_too_large_or_no_object_is_an_error(shared, worker):
    assert "not a JSON object" in refusal(shared, payload=[1])
    asked = shared.publish("order.wrong", {"event": "order.made", "size": 1048576, "options": {}})
    note = shared.wait_marks(1, id=asked)[0]["note"]
    assert "max_body_bytes" in note["why"]


def test_a_delay_of_3_s_is_kept(shared, worker):
    event_id = ask(shared, "order.made", {"n": 4}, delay_ms=3000)
    asked = shared.marks(note=event_id)[0]
    mark = made(shared, event_id)
    waited_s = (mark["at_us"] - asked["at_us"]) / SECOND_US
    assert 2.9 <= waited_s <= 3.5
    assert (mark["note"]["exchange"], mark["note"]["key"]) == (shared.exchange, "order.made")
    assert mark["note"]["headers"]["leveret-delayed"] is True


def ladder(shared, event_id):
    """The level that the message waits in now; it stays there."""
    for level in range(24):
        name = f"leveret.delay.{level:02}"
        found = shared.broker.peek(name, event_id)
        if found:
            return level, found
    return None


@pytest.mark.parametrize("delay_s, level", [(90, 8), (25 * 3600, 18)])
def test_a_long_delay_waits_in_its_level(shared, worker, delay_s, level):
    event_id = ask(shared, "order.made", {"n": 5}, delay_ms=delay_s * 1000)
    found, message = wait("the message in the ladder", lambda: ladder(shared, event_id))
    assert found == level
    ticks = delay_s * 4
    bits = "".join(str(ticks >> i & 1) + "." for i in reversed(range(24)))
    assert message.routing_key.startswith(bits)
    assert message.header("leveret-to-exchange") == shared.exchange
    assert json.loads(message.body) == {"event": "order.made", "payload": {"n": 5}}
