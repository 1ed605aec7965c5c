"""The OpsDesk system on its own names: exchange, queues, envelope, cache keys, counters."""
import json

import pytest

from harness.waiting import wait
from harness.worker import ROOT

EXCHANGE = "opsdesk.events"
DEAD_LETTER = "tickets.dlq"
TYPES = ("ticket.created", "ticket.updated", "ticket.status_changed", "message.sent")
PAYLOADS = {
    "ticket.created": {"id": "t-1", "title": "Printer", "ownerId": "u-7",
                       "createdAt": "2026-01-01T00:00:00.000Z"},
    "ticket.updated": {"id": "t-2", "title": "Printer on fire"},
    "ticket.status_changed": {"id": "t-3", "oldStatus": "open", "newStatus": "closed"},
    "message.sent": {"id": "m-1", "ticketId": "t-4", "authorId": "u-8", "content": "hello",
                     "sentAt": "2026-01-01T00:00:00.000Z"},
}


def clean(broker):
    broker.delete(*(name + ".queue" for name in TYPES), DEAD_LETTER)
    broker.delete_exchange(EXCHANGE)


@pytest.fixture(scope="module")
def opsdesk(shared, broker, redis):
    clean(broker)
    shared.queues.update(name + ".queue" for name in TYPES)
    worker = shared.worker(rabbitmq={"exchange": EXCHANGE}, dead_letter={"queue": DEAD_LETTER},
                           handlers=[str(ROOT / "handlers/opsdesk")])
    for number in range(2500):
        redis.set(f"tickets:list:{number}", "cached")
    redis.set("tickets:other", "stays")
    shared.broker.publish(EXCHANGE, "ticket.created",
                          json.dumps({"event": "ticket.created",
                                      "payload": PAYLOADS["ticket.created"]}),
                          message_id="ops-ticket.created")
    worker.wait_outcomes("processed", 1)
    shared.after_first = len(list(redis.scan_iter("tickets:list:*")))
    for name in TYPES[1:]:
        shared.broker.publish(EXCHANGE, name, json.dumps({"event": name,
                                                          "payload": PAYLOADS[name]}),
                              message_id="ops-" + name)
    shared.broker.publish(EXCHANGE, "ticket.created",
                          json.dumps({"event": "ticket.created",
                                      "payload": PAYLOADS["ticket.created"]}),
                          message_id="ops-ticket.created")
    worker.wait_outcomes("processed", 4)
    worker.wait_outcomes("duplicate", 1)
    yield worker
    shared.stop_workers()
    redis.delete("tickets:other")
    clean(broker)


def test_all_four_are_handled_and_their_notifications_logged(opsdesk):
    for name in TYPES:
        lines = opsdesk.log.records(r"\[FAKE\]", event=name)
        assert lines, f"no notification of {name}"
    assert opsdesk.log.records("ticket created.*t-1")
    assert opsdesk.log.records("message.*t-4")


def test_ticket_events_remove_the_cached_lists_and_say_how_many(opsdesk, shared, redis):
    assert shared.after_first == 0
    assert opsdesk.log.records("invalidated", event="ticket.created", count=2500)
    assert redis.get("tickets:other") == "stays"


def test_each_event_has_one_row_in_the_ledger(opsdesk, shared):
    assert sorted(shared.ledger()) == sorted((name + ".queue", name, "ops-" + name)
                                             for name in TYPES)
    assert set(shared.rows("select processor_name from processed_events")) == {(shared.prefix,)}


def test_the_second_delivery_is_skipped_as_a_duplicate(opsdesk):
    assert len(opsdesk.log.records("ticket created.*t-1")) == 1
    assert opsdesk.log.records("already processed", id="ops-ticket.created")


def test_the_counters_are_served_as_the_seed_does(opsdesk):
    status, text = opsdesk.get("/metrics.json")
    counters = json.loads(text)
    assert status == 200
    assert counters["uptimeSeconds"] >= 0
    assert {name: counters[name] for name in ("processed", "failed", "retried", "duplicates")} == \
        {"processed": 4, "failed": 0, "retried": 0, "duplicates": 1}
    wait("an empty queue in the counters",
         lambda: json.loads(opsdesk.get("/metrics.json")[1])["queueDepth"] == 0)


@pytest.mark.full
def test_the_four_counters_are_logged_every_30_s(opsdesk):
    record = opsdesk.wait_log("counters", timeout_s=40)
    assert record["processed"] == 4 and record["duplicates"] == 1


def test_queues_are_declared_with_the_dead_letters_as_last_resort(opsdesk, shared):
    for name in TYPES:
        shared.broker.publish("", name + ".queue", "{", message_id="broken-" + name)
    dead = [wait("a dead letter", lambda: shared.broker.get(DEAD_LETTER)) for _ in TYPES]
    assert {message.properties.message_id for message in dead} == {"broken-" + n for n in TYPES}
