"""Failed attempts come again after 1 s, 2 s, 4 s, hold up nothing meanwhile, and end as dead
letters that carry everything."""
import datetime
import re

import pytest

from harness.broker import nested, wire, wire_string
from harness.waiting import wait

SECOND_US = 1_000_000
OWN_HEADERS = {
    "boolean": wire("t", "B", 1), "int8": wire("b", "b", -5), "uint8": wire("B", "B", 250),
    "int16": wire("s", "h", -300), "uint16": wire("u", "H", 65000),
    "int32": wire("I", "i", -70000), "uint32": wire("i", "I", 4000000000),
    "int64": wire("l", "q", -2**60), "float": wire("f", "f", 1.5), "double": wire("d", "d", 0.1),
    "decimal": wire("D", "BI", 2, 314), "time": wire("T", "Q", 1700000000), "void": wire("V"),
    "string": wire_string("S", "häß".encode() + b"\xff\x00end"),
    "bytes": wire_string("x", b"\0\1"),
    "table": nested(5, "F"), "array": nested(5, "A"), "empty": wire_string("S", b""),
}
BODY = (b'{ "event":"job.fails" ,\t'
        b'"payload": {"n":1.0, "n2":12345678901234567890, "u":"\\u00e9"} }\n')
FAIL = """
mark(event, ctx)
if event.payload.fail or event.type == 'job.fails' then error('boom: ' .. event.type) end
"""
FAST = {"max": 1, "base_ms": 250}


@pytest.fixture(scope="module")
def worker(shared):
    shared.handler("job.fails", FAIL)
    shared.handler("job.mixed", FAIL, retry={"max": 1, "base_ms": 3000})
    shared.handler("job.once", "mark(event, ctx) error('no luck')", retry={"max": 0})
    shared.handler("job.kept", "mark(event, ctx) error('no luck')", retry={"max": 0},
                   dead_letter=shared.queue("kept"))
    shared.handler("job.fast", "mark(event, ctx) error('no luck')", retry=FAST)
    shared.handler("job.counted", "mark(event, ctx) error('again')",
                   retry={"max": 3, "base_ms": 250})
    shared.handler("job.shows", """
        mark(event, ctx, {exchange = event.exchange, key = event.routing_key, queue = event.queue,
                          priority = event.priority, raw = event.raw, own = event.headers.own})
        if event.attempt == 1 then error('once') end""",
                   retry=FAST, events=["job.shows"], bind=["job.shows.#"])
    shared.handler("job.asks", """
        mark(event, ctx)
        if event.attempt == 1 then ctx.retry('a moment', {after_ms = 1500}) end""")
    shared.handler("job.left", FAIL, events=["job.shared"], retry=FAST)
    shared.handler("job.right", "mark(event, ctx)", events=["job.shared"], retry=FAST)
    shared.handler("job.wordy", "mark(event, ctx) error(string.rep('long ', 20000))",
                   retry={"max": 1, "base_ms": 250})
    shared.handler("job.odd", """
        mark(event, ctx)
        if event.payload == 'table' then error({code = 7}) end
        if event.payload == 'nil' then error(nil) end
        local nothing; return nothing.field""", retry={"max": 0})
    return shared.worker()


@pytest.fixture(scope="module")
def failed(shared, worker):
    """One event that always fails, published with everything that a message can carry."""
    sent = datetime.datetime(2026, 1, 2, 3, 4, 5)
    shared.broker.publish(
        shared.exchange, "job.fails", BODY, message_id="doomed", headers=OWN_HEADERS,
        content_type="application/json", content_encoding="utf-8", priority=3,
        correlation_id="c-1", reply_to="r-1", timestamp=int(sent.timestamp()), type="job",
        app_id="e2e", delivery_mode=1)
    return sent


def find_dead(shared, message_id, timeout_s=30):
    """Dead letters of several tests share a queue."""
    kept = shared.__dict__.setdefault("dead_letters", {})

    def look():
        for message in shared.broker.drain(shared.dead_letter):
            kept.setdefault(message.properties.message_id, []).append(message)
        return kept.get(message_id)

    return wait(f"the dead letter {message_id}", look, timeout_s)[0]


def test_while_one_waits_for_its_retry_others_of_its_queue_are_handled(shared, worker, failed):
    waiting = shared.publish("job.mixed", {"fail": True})
    shared.wait_marks(1, id=waiting)
    others = [shared.publish("job.mixed", {"fail": False}, confirm=False) for _ in range(50)]
    wait("the others", lambda: {mark["id"] for mark in shared.marks(type="job.mixed")} >=
         set(others))
    marks = [mark["id"] for mark in shared.marks(type="job.mixed")]
    assert len(marks) == 51, "each ran once, and the retry was still waiting"
    second = shared.wait_marks(2, id=waiting)[1]
    assert second["attempt"] == 2


def test_what_a_handler_sees_on_a_retry_is_as_first_published(shared, worker):
    event = shared.publish("job.shows", {"n": 1}, headers={"own": "héader"})
    first, second = (mark["note"] for mark in shared.wait_marks(2, id=event))
    assert first == second
    assert first["exchange"] == shared.exchange and first["key"] == "job.shows"
    assert first["queue"] == shared.queue("job.shows") and first["own"] == "héader"
    assert first["raw"] == '{"event": "job.shows", "payload": {"n": 1}}'


def test_a_retry_goes_to_the_queue_that_failed_and_no_other(shared, worker):
    event = shared.publish("job.shared", {"fail": True})
    dead = find_dead(shared, event)
    assert dead.header("leveret-origin-queue") == shared.queue("job.left")
    queues = [mark["queue"] for mark in shared.marks(id=event)]
    assert sorted(queues) == sorted([shared.queue("job.left")] * 2 + [shared.queue("job.right")])


def test_a_handler_may_name_the_delay(shared, worker):
    event = shared.publish("job.asks")
    first, second = shared.wait_marks(2, id=event)
    assert 1.5 <= (second["at_us"] - first["at_us"]) / SECOND_US <= 2.5
    assert second["attempt"] == 2


MADE_ELSEWHERE = [
    ({"x-retry-count": 2}, [3, 4]),
    ({"x-retry-count": 3}, [4]),
    ({"x-retry-count": 30}, [31]),
    ({"x-retry-count": 3, "leveret-attempt": 2}, [3, 4]),
    ({"x-retry-count": 3, "leveret-attempt": 0}, [1, 2, 3, 4]),
    ({"x-retry-count": "many"}, [1, 2, 3, 4]),
    ({"x-retry-count": -1}, [1, 2, 3, 4]),
]


@pytest.fixture(scope="module")
def counted(shared, worker):
    """All at once, so that they wait for their retries together."""
    return [shared.publish("job.counted", headers=headers) for headers, _ in MADE_ELSEWHERE]


@pytest.mark.parametrize("number", range(len(MADE_ELSEWHERE)),
                         ids=[str(headers) for headers, _ in MADE_ELSEWHERE])
def test_attempts_made_elsewhere_count(shared, counted, number):
    headers, attempts = MADE_ELSEWHERE[number]
    event = counted[number]
    dead = find_dead(shared, event)
    assert [mark["attempt"] for mark in shared.marks(id=event)] == attempts
    assert dead.header("leveret-attempt") == attempts[-1]
    if "x-retry-count" in headers:
        assert dead.header("x-retry-count") == headers["x-retry-count"]


def test_user_id_cc_and_expiration_move_aside(shared, worker):
    """A broker would refuse, copy or expire the retry and the dead letter because of them."""
    other = shared.queue("copies")
    shared.queues.add(other)
    shared.broker.declare(other, bind=(shared.exchange, other))
    by_user = shared.publish("job.fast", user_id="guest")
    by_copy = shared.publish("job.fast", headers={"CC": [other], "BCC": [other + ".none"]})
    by_time = shared.publish("job.fast", expiration="60000")
    dead = find_dead(shared, by_user)
    assert dead.properties.user_id is None
    assert dead.header("leveret-origin-user-id") == "guest"
    dead = find_dead(shared, by_copy)
    assert "CC" not in dead.wire and dead.header("leveret-origin-cc") == [other]
    dead = find_dead(shared, by_time)
    assert dead.properties.expiration is None
    assert dead.header("leveret-origin-expiration") == "60000"
    for event in (by_user, by_copy, by_time):
        assert [mark["attempt"] for mark in shared.marks(id=event)] == [1, 2]
    assert shared.broker.depth(other) == 1, "the copy of the first publish, and none of a retry"


def test_a_dead_letter_outlives_its_events_expiration(shared, worker):
    canary, kept = shared.queue("canary"), shared.queue("kept")
    shared.queues.update((canary, kept))
    shared.broker.declare(canary)
    event = shared.publish("job.kept", expiration="1500")
    wait("the dead letter", lambda: shared.broker.depth(kept) == 1)
    shared.broker.publish("", canary, b"", expiration="1500")
    wait("a message of that expiration to expire", lambda: shared.broker.depth(canary) == 0)
    assert shared.broker.get(kept).properties.message_id == event


def test_an_expiration_shorter_than_the_delay_loses_nothing(shared, worker):
    event = shared.publish("job.asks", expiration="1000")
    assert [mark["attempt"] for mark in shared.wait_marks(2, id=event)] == [1, 2]


def test_long_errors_are_cut(shared, worker):
    event = shared.publish("job.wordy")
    dead = find_dead(shared, event)
    assert 500 < len(dead.header("leveret-error")) <= 1024
    assert "long long" in dead.header("leveret-error")
    assert len(dead.header("leveret-trace") or "") <= 8192


@pytest.mark.parametrize("payload,reason", [
    ("table", r"table|code"), ("nil", r"nil"), ("index", r"job\.odd\.lua:\d+:.*nothing"),
])
def test_errors_of_every_kind_are_readable(shared, worker, payload, reason):
    dead = find_dead(shared, shared.publish("job.odd", payload))
    assert re.search(reason, dead.header("leveret-error"))


def test_a_text_error_names_file_and_line_once(shared, worker):
    dead = find_dead(shared, shared.publish("job.once"))
    assert re.search(r"job\.once\.lua:\d+: no luck", dead.header("leveret-error"))
    assert "job.once.lua:" in dead.header("leveret-trace")


def test_retries_come_after_1_2_and_4_seconds(shared, worker, failed):
    marks = shared.wait_marks(4, id="doomed")
    gaps = [(later["at_us"] - earlier["at_us"]) / SECOND_US
            for earlier, later in zip(marks, marks[1:])]
    assert [mark["attempt"] for mark in marks] == [1, 2, 3, 4]
    for gap, wanted in zip(gaps, (1, 2, 4)):
        assert wanted <= gap <= wanted + 1, gaps


def test_each_retry_is_logged_with_attempt_maximum_and_delay(shared, worker, failed):
    shared.wait_marks(4, id="doomed")
    for attempt, delay_ms in ((1, 1000), (2, 2000), (3, 4000)):
        lines = worker.log.records(f"attempt {attempt}/3 after {delay_ms} ms", id="doomed")
        assert len(lines) == 1 and lines[0]["event"] == "job.fails"
        assert "boom" in str(lines[0])


def test_the_dead_letter_carries_everything(shared, worker, failed):
    dead = find_dead(shared, "doomed")
    assert dead.body == BODY
    own = {name: value for name, value in dead.wire.items()
           if not name.startswith("leveret-") and name != "x-delivery-count"}
    assert own == OWN_HEADERS
    assert dead.header("leveret-attempt") == 4
    assert "boom: job.fails" in dead.header("leveret-error")
    assert "job.fails.lua" in dead.header("leveret-trace")
    assert dead.header("leveret-origin-exchange") == shared.exchange
    assert dead.header("leveret-origin-routing-key") == "job.fails"
    assert dead.header("leveret-origin-queue") == shared.queue("job.fails")
    assert "job.fails" in dead.header("leveret-handler")
    assert dead.header("leveret-first-failed-at")
    properties = dead.properties
    assert properties.delivery_mode == 2
    assert (properties.content_type, properties.content_encoding, properties.priority,
            properties.correlation_id, properties.reply_to, properties.timestamp,
            properties.type, properties.app_id) == \
        ("application/json", "utf-8", 3, "c-1", "r-1", int(failed.timestamp()), "job", "e2e")


def test_an_event_that_failed_for_good_is_not_in_the_ledger(shared, worker, failed):
    find_dead(shared, "doomed")
    assert not [row for row in shared.ledger() if row[2] == "doomed"]


def test_a_dead_letter_can_be_played_again(shared, worker):
    """By hand: its body to its queue, with leveret-attempt 0."""
    event = shared.publish("job.once")
    dead = find_dead(shared, event)
    headers = dict(dead.wire, **{"leveret-attempt": 0})
    shared.broker.publish("", dead.header("leveret-origin-queue"), dead.body, headers=headers,
                          message_id=event)
    marks = shared.wait_marks(2, id=event)
    assert [mark["attempt"] for mark in marks] == [1, 1]


def test_the_longest_delay_is_capped(site):
    site.handler("job.capped", "mark(event, ctx) error('again')",
                 retry={"max": 3, "base_ms": 500, "cap_ms": 750})
    worker = site.worker()
    event = site.publish("job.capped")
    site.dead()
    assert len(site.marks(id=event)) == 4
    for attempt, delay_ms in ((1, 500), (2, 750), (3, 750)):
        assert worker.log.records(f"attempt {attempt}/3 after {delay_ms} ms", id=event)
    site.assert_settled(worker)
