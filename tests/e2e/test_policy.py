"""What an event asks for itself, attempts, delay and priority, wins over its handler's policy, within
the configuration's limits."""
import json

import pytest

from harness.waiting import wait

SECOND_US = 1_000_000
FAST = {"max": 1, "base_ms": 250}


@pytest.fixture(scope="module")
def worker(shared):
    shared.handler("mail.fails", "mark(event, ctx) error('no luck')", retry=FAST,
                   queue=shared.queue("email_queue"))
    shared.handler("mail.goes", "mark(event, ctx, {priority = event.priority})",
                   queue=shared.queue("email_queue"))
    return shared.worker(limits={"max_attempts": 5, "max_delay": "1h"})


def send(shared, message_id, event_type, headers=None, **wishes):
    """Seed 3's envelope, straight into its queue."""
    body = {"id": message_id, "type": event_type, "payload": {"n": 1},
            "created_at": "2026-01-02T03:04:05Z", **wishes}
    shared.broker.publish("", shared.queue("email_queue"), json.dumps(body), headers=headers,
                          message_id=message_id)


def dead(shared, message_id):
    kept = shared.__dict__.setdefault("policy_dead", {})

    def look():
        for message in shared.broker.drain(shared.dead_letter):
            kept[message.properties.message_id] = message
        return kept.get(message_id)

    return wait(f"the dead letter {message_id}", look)


@pytest.mark.parametrize("name, wishes, headers, runs", [
    ("none", {}, None, 2),
    ("envelope", {"max_attempts": 3}, None, 3),
    ("once", {"max_attempts": 1}, None, 1),
    ("unset", {"max_attempts": 0}, None, 2),  # what Go sends for a number that was never set
    ("limit", {"max_attempts": 10**9}, None, 5),
    ("header", {"max_attempts": 3}, {"leveret-max-attempts": 4}, 4),
])
def test_an_event_is_run_as_often_as_it_asks(shared, worker, name, wishes, headers, runs):
    send(shared, name, "mail.fails", headers, **wishes)
    dead(shared, name)
    assert [mark["attempt"] for mark in shared.marks(id=name)] == list(range(1, runs + 1))


@pytest.mark.parametrize("name, wishes, headers, why", [
    ("negative attempts", {"max_attempts": -1}, None, "max_attempts"),
    ("negative priority", {"priority": -1}, None, "priority"),
    ("negative delay", {"delay": -1}, None, "delay"),
    ("no number", {"max_attempts": "often"}, None, "max_attempts"),
    ("too late", {"delay": 3601}, None, "limits.max_delay"),
    ("no attempts", {}, {"leveret-max-attempts": 0}, "leveret-max-attempts"),
    ("early", {}, {"leveret-delay-ms": -5}, "leveret-delay-ms"),
])
def test_what_makes_no_sense_is_a_dead_letter_with_its_reason(shared, worker, name, wishes, headers,
                                                              why):
    send(shared, name, "mail.goes", headers, **wishes)
    letter = dead(shared, name)
    error = letter.header("leveret-error")
    assert why in (error if isinstance(error, str) else error.decode())
    assert not shared.marks(id=name)


@pytest.mark.parametrize("name, wishes, headers", [
    ("in the envelope", {"delay": 1}, None),
    ("in a header", {}, {"leveret-delay-ms": 1000}),
])
def test_a_delay_is_served_once(shared, worker, name, wishes, headers):
    before = shared.redis.time()
    send(shared, name, "mail.goes", headers, **wishes)
    mark = shared.wait_marks(1, id=name)[0]
    waited_s = (mark["at_us"] - (before[0] * SECOND_US + before[1])) / SECOND_US
    assert 1.0 <= waited_s <= 2.5
    assert mark["attempt"] == 1


def test_a_delayed_event_has_all_its_attempts(shared, worker):
    send(shared, "both", "mail.fails", delay=1, max_attempts=3)
    dead(shared, "both")
    assert [mark["attempt"] for mark in shared.marks(id="both")] == [1, 2, 3]


def test_the_priority_of_the_envelope_is_the_event_s(shared, worker):
    send(shared, "urgent", "mail.goes", priority=7)
    assert shared.wait_marks(1, id="urgent")[0]["note"]["priority"] == 7


def test_urgent_events_overtake_others(site):
    queue = site.queue("urgent")
    site.handler("job.any", "mark(event, ctx, event.priority)", queue=queue, max_priority=9,
                 concurrency=1, prefetch=1)
    worker = site.worker()
    worker.wait_log("max_priority makes this a classic queue", queue=queue)
    worker.stop()
    for priority in (0, 5, 9, 1, 9):
        site.publish("job.any", {}, priority=priority)
    site.worker()
    notes = [mark["note"] for mark in site.wait_marks(5)]
    assert notes == [9, 9, 5, 1, 0]
