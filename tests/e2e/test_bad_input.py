"""Whatever is published, the worker goes on, and says what was wrong with it."""
import json
import re
import time

import pytest

from harness.broker import nested, wire, wire_string
from harness.waiting import wait

MAX_BODY_BYTES = 1024 * 1024
OWN_HEADERS = {"number": wire("I", "i", 7), "text": wire_string("S", b"own \xff\x00"),
               "table": nested(3, "F")}


def envelope(payload, event_type=b"good.event"):
    return b'{"event": "' + event_type + b'", "payload": ' + payload + b"}"


BAD_BODIES = {
    "not-json": (b"hello", "JSON"),
    "half-json": (b'{"event": "good.event", "payload": {', "JSON"),
    "two-values": (envelope(b"1") + b"{}", "JSON"),
    "empty": (b"", "empty"),
    "only-blanks": (b" \n\t ", "JSON|empty"),
    "nul-byte": (envelope(b'"a\0b"'), "NUL|control|JSON"),
    "nul-bytes": (b"\0" * 100, "NUL|JSON"),
    "invalid-utf8": (envelope(b'"\xc3\x28"'), "UTF-8"),
    "overlong-utf8": (envelope(b'"\xc0\xaf"'), "UTF-8"),
    "lone-surrogate": (envelope(b'"\\ud800"'), "surrogate|UTF|JSON"),
    "a-million-levels": (b'{"event": "good.event", "payload": ' + b"[" * 1_000_000,
                         "nest|deep|level"),
    "500000-closed-levels": (envelope(b"[" * 500_000 + b"]" * 500_000), "nest|deep|level"),
    "deep-objects": (envelope(b'{"a":' * 100_000 + b"1" + b"}" * 100_000), "nest|deep|level"),
    "array": (b"[1, 2, 3]", "type|envelope|object"),
    "text": (b'"good.event"', "type|envelope|object"),
    "no-type": (b'{"payload": {"id": 1}}', "type"),
    "type-is-a-number": (b'{"event": 7, "payload": {}}', "type|event|text|string"),
    "empty-type": (b'{"event": "", "payload": {}}', "type|event"),
    "no-handler": (envelope(b"{}", b"nobodys.event"), "nobodys.event"),
    "nan": (envelope(b"NaN"), "JSON"),
    "leading-zero": (envelope(b"01"), "JSON|number"),
    "utf16": ('{"event": "good.event"}'.encode("utf-16"), "UTF|JSON|NUL"),
    "bom": (b"\xef\xbb\xbf[", "JSON|byte order|type"),
}


@pytest.fixture(scope="module")
def worker(shared):
    shared.handler("good.event", "mark(event, ctx, ctx.json.encode(event.payload))", concurrency=10)
    worker = shared.worker(max_body_bytes=MAX_BODY_BYTES)
    yield worker
    assert worker.running()


@pytest.fixture
def still_works(shared, worker):
    """After each: a good event is handled, and nothing else is left over."""
    yield
    event = shared.publish("good.event")
    shared.wait_marks(1, id=event)
    assert shared.broker.get(shared.dead_letter) is None
    assert shared.broker.depth(shared.queue("good.event")) == 0


def send(shared, body, **properties):
    shared.broker.publish("", shared.queue("good.event"), body, **properties)


def dead_within_a_second(shared, worker, before_s):
    """The dead letter. The second is one of the worker's own processor time, which other programs
    on a busy machine do not spend."""
    dead = shared.dead()
    assert worker.processor_s() - before_s < 1
    return dead


def own_headers(message):
    return {name: value for name, value in message.wire.items() if name in OWN_HEADERS}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_a_bad_body_is_a_dead_letter_at_once(shared, worker, still_works, name):
    body, reason = BAD_BODIES[name]
    before_s = worker.processor_s()
    send(shared, body, message_id=name, headers=OWN_HEADERS, content_type="text/x-own")
    dead = dead_within_a_second(shared, worker, before_s)
    assert dead.body == body
    assert own_headers(dead) == OWN_HEADERS
    assert (dead.properties.message_id, dead.properties.content_type) == (name, "text/x-own")
    error = dead.header("leveret-error")
    assert re.search(reason, error), error
    assert len(error) <= 1024 and "\n" not in error
    assert dead.header("leveret-origin-queue") == shared.queue("good.event")
    worker.wait_log(re.escape(json.dumps(error, ensure_ascii=False)[1:-1]), id=name)


@pytest.mark.parametrize("size", [MAX_BODY_BYTES + 1, 20 * MAX_BODY_BYTES])
def test_a_body_over_the_limit_is_never_read(shared, worker, still_works, size):
    filler = size - len(envelope(b'""'))
    body = envelope(b'"' + b"x" * filler + b'"')
    assert len(body) == size
    before_s = worker.processor_s()
    send(shared, body, message_id=f"big-{size}", headers=OWN_HEADERS)
    dead = dead_within_a_second(shared, worker, before_s)
    assert dead.body == body
    assert own_headers(dead) == OWN_HEADERS
    worker.wait_log(f"max_body_bytes.*big-{size}|big-{size}.*max_body_bytes")


@pytest.mark.parametrize("size", [MAX_BODY_BYTES + 1, 20 * MAX_BODY_BYTES])
def test_a_body_over_the_limit_on_a_queue_without_dead_letters(site, size):
    """Rejected, it would be gone: the queue is somebody else's and is taken as it stands."""
    queue = site.queue("plain")
    site.broker.declare(queue)
    site.handler("plain.event", "mark(event, ctx)", queue=queue, queue_type="classic")
    worker = site.worker(max_body_bytes=MAX_BODY_BYTES)
    body = envelope(b'"' + b"x" * (size - len(envelope(b'""', b"plain.event"))) + b'"',
                    b"plain.event")
    assert len(body) == size
    for number in range(3):
        site.broker.publish("", queue, body, message_id=f"big-{number}", headers=OWN_HEADERS)
    event = site.publish("plain.event", queue=queue)
    site.wait_marks(1, id=event)
    dead = [site.dead() for _ in range(3)]
    assert {message.properties.message_id for message in dead} == {"big-0", "big-1", "big-2"}
    for message in dead:
        assert message.body == body
        assert own_headers(message) == OWN_HEADERS
        assert "max_body_bytes" in message.header("leveret-error")
        assert message.header("leveret-origin-queue") == queue
    assert len(site.marks()) == 1
    site.assert_settled(worker)
    assert site.broker.get(site.dead_letter) is None


def test_a_body_of_exactly_the_limit_is_handled(shared, worker, still_works):
    filler = MAX_BODY_BYTES - len(envelope(b'""'))
    send(shared, envelope(b'"' + b"x" * filler + b'"'), message_id="full")
    assert len(shared.wait_marks(1, id="full")[0]["note"]) == filler + 2
    shared.redis.delete(shared.marks_key)


@pytest.mark.parametrize("levels,kind", [(5000, "F"), (12000, "A"), (65, "A")])
def test_header_tables_nested_deep(shared, worker, still_works, levels, kind):
    headers = {"deep": nested(levels, kind), **OWN_HEADERS}
    before_s = worker.processor_s()
    send(shared, envelope(b"{}"), message_id=f"deep-{levels}{kind}", headers=headers)
    # Beyond some thousands the broker itself takes more than a second to pass it on.
    dead = dead_within_a_second(shared, worker, before_s) if levels <= 5000 else shared.dead()
    assert dead.wire["deep"] == headers["deep"]
    assert own_headers(dead) == OWN_HEADERS
    assert re.search("header.*nest|nest.*header", dead.header("leveret-error"))


def test_headers_that_fill_a_frame_can_still_be_dead_lettered(shared, worker, still_works):
    """Ours come on top of the event's own, and all of them must fit one frame."""
    headers = {"filler": wire_string("S", b"x" * 127_000)}
    send(shared, b"not JSON", message_id="brimful", headers=headers)
    dead = shared.dead()
    assert dead.body == b"not JSON"
    assert dead.wire["filler"] == headers["filler"]


def test_an_id_of_10_kb_is_handled_once(shared, worker, still_works):
    big_id = "x" * 10_000
    body = json.dumps({"id": big_id, "type": "good.event", "payload": {"n": 1}})
    send(shared, body)
    shared.wait_marks(1, id=big_id)
    wait("its record", lambda: [row for row in shared.ledger() if row[2] == big_id])
    before = worker.outcomes("duplicate")
    send(shared, body)
    worker.wait_outcomes("duplicate", before + 1)
    assert len(shared.marks(id=big_id)) == 1


def test_an_id_beyond_reason_is_a_dead_letter(shared, worker, still_works):
    body = json.dumps({"id": "x" * 100_000, "type": "good.event", "payload": {}}).encode()
    before_s = worker.processor_s()
    send(shared, body)
    dead = dead_within_a_second(shared, worker, before_s)
    assert dead.body == body
    assert re.search(r"id\b.*100000 bytes", dead.header("leveret-error"))


def test_an_id_with_a_nul_is_a_dead_letter(shared, worker, still_works):
    body = b'{"id": "a\\u0000b", "type": "good.event", "payload": {}}'
    before_s = worker.processor_s()
    send(shared, body)
    dead = dead_within_a_second(shared, worker, before_s)
    assert re.search(r"id\b.*NUL", dead.header("leveret-error"))


def test_an_event_without_an_id_is_handled_each_time(shared, worker, still_works):
    name = wait("the counter of events without an id", lambda: [
        name for name in worker.metrics().types if re.search("without_id", name)])[0]
    before = worker.metric(name)
    marks = len(shared.marks())
    for _ in range(2):
        send(shared, envelope(b'"no id"'))
    wait("both", lambda: len(shared.marks()) == marks + 2)
    wait("both to be counted", lambda: worker.metric(name) == before + 2)


def test_duplicate_keys_never_make_two_events_of_one(shared, worker, still_works):
    body = b'{"event": "good.event", "event": "nobodys.event", "payload": 1, "payload": 2}'
    before_s = worker.processor_s()
    send(shared, body, message_id="double")
    seen = wait("its end", lambda: shared.marks(id="double") or shared.broker.get(
        shared.dead_letter))
    if isinstance(seen, list):
        assert len(seen) == 1
    else:
        assert worker.processor_s() - before_s < 1
        assert seen.body == body and seen.header("leveret-error")


def test_duplicate_keys_in_a_payload_are_handled(shared, worker, still_works):
    send(shared, envelope(b'{"a": 1, "a": 2}'), message_id="double-payload")
    note = shared.wait_marks(1, id="double-payload")[0]["note"]
    assert json.loads(note) in ({"a": 1}, {"a": 2})


def test_a_flood_of_bad_events_holds_up_no_good_one(shared, worker, still_works):
    queue = shared.queue("good.event")
    for number in range(500):
        shared.broker.publish("", queue, b"bad", confirm=False, message_id=f"bad-{number}")
    event = shared.publish("good.event")
    shared.wait_marks(1, id=event)
    dead = {shared.dead().properties.message_id for _ in range(500)}
    assert len(dead) == 500


def test_poison_is_a_dead_letter_within_a_second_of_its_last_attempt(site):
    """A hundred at once; the limit is ten seconds, for other programs may be busy."""
    site.handler("poison.event", "mark(event, ctx) error('always')", concurrency=100,
                 retry={"max": 1, "base_ms": 250})
    worker = site.worker(log={"level": "info"})
    ids = {site.publish("poison.event", {"n": n}, confirm=False) for n in range(100)}
    dead_at = {}
    while len(dead_at) < len(ids):
        dead_at[site.dead().properties.message_id] = time.time()
    last_at = {mark["id"]: mark["at_us"] / 1e6 for mark in site.marks(attempt=2)}
    assert set(last_at) == set(dead_at) == ids
    took_s = max(dead_at[event] - last_at[event] for event in ids)
    print(f"dead letters {took_s:.3f} s after their last attempts at most")
    assert took_s < 10
    site.assert_settled(worker)
