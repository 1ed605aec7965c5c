"""SIGTERM stops consuming, finishes what is in flight, returns the rest, and exits 0."""
import json
import signal
import time

import pytest

from harness.waiting import wait

ONE_SECOND = "mark(event, ctx, 'start') ctx.sleep(1000) mark(event, ctx, 'end')"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_in_flight_is_finished_and_the_rest_returned(site, number):
    site.handler("work.slow", ONE_SECOND, concurrency=5)
    worker = site.worker(shutdown_timeout_ms=20000)
    ids = {site.publish("work.slow") for _ in range(20)}
    wait("five to run", lambda: len(site.marks(note="start")) == 5)
    worker.stop(number=number)
    started = {mark["id"] for mark in site.marks(note="start")}
    assert {mark["id"] for mark in site.marks(note="end")} == started
    assert {row[2] for row in site.ledger()} == started
    left = wait("the rest in the queue", lambda: site.broker.drain(site.queue("work.slow")))
    left += site.broker.drain(site.queue("work.slow"))
    assert {message.properties.message_id for message in left} == ids - started
    assert 5 <= len(started) < 20
    assert not site.broker.depth(site.dead_letter)


def test_what_does_not_finish_in_time_goes_back_at_no_cost(site):
    site.handler("work.endless", "mark(event, ctx) ctx.sleep(600000)", timeout_ms=700000)
    worker = site.worker(shutdown_timeout_ms=500)
    event = site.publish("work.endless")
    site.wait_marks(1)
    began = time.monotonic()
    worker.stop()
    assert 0.5 <= time.monotonic() - began < 5
    assert site.ledger() == []
    again = site.worker(shutdown_timeout_ms=500)
    assert [mark["attempt"] for mark in site.wait_marks(2, id=event)] == [1, 1]
    again.stop()


def test_a_transaction_that_does_not_finish_is_rolled_back(site):
    site.handler("work.writes", """
        ctx.db.exec("insert into runs (event_id) values ($1)", event.id)
        mark(event, ctx)
        ctx.sleep(600000)""", timeout_ms=700000)
    worker = site.worker(shutdown_timeout_ms=500)
    site.publish("work.writes")
    site.wait_marks(1)
    worker.stop()
    assert site.runs() == [] and site.ledger() == []
    wait("the event in its queue", lambda: site.broker.depth(site.queue("work.writes")) == 1)


def test_each_step_is_logged_and_nothing_is_an_error(site):
    site.handler("work.slow", ONE_SECOND)
    worker = site.worker()
    site.publish("work.slow")
    site.wait_marks(1)
    worker.stop()
    steps = worker.log.records(r"(?i)shutdown|shutting down")
    assert len(steps) >= 3, steps
    for name in ("RabbitMQ", "PostgreSQL", "Redis"):
        assert worker.log.records(f"(?i)(shut|clos).*{name}|{name}.*clos"), f"{name} is not named"
    assert not worker.log.records(level="error")


def test_a_second_sigterm_exits_at_once(site):
    site.handler("work.endless", "mark(event, ctx) ctx.sleep(600000)", timeout_ms=700000)
    worker = site.worker(shutdown_timeout_ms=120000)
    event = site.publish("work.endless")
    site.wait_marks(1)
    worker.signal(signal.SIGTERM)
    worker.wait_log(r"(?i)shutdown|shutting down")
    began = time.monotonic()
    worker.signal(signal.SIGTERM)
    worker.wait(10)
    assert time.monotonic() - began < 8
    worker.check_sanitizers()
    worker.process = None
    queue = site.queue("work.endless")
    wait("the event in its queue", lambda: site.broker.depth(queue) == 1)
    assert site.broker.get(queue).properties.message_id == event


def test_nothing_in_flight_ends_quickly(site):
    site.handler("work.slow", ONE_SECOND)
    worker = site.worker(shutdown_timeout_ms=30000)
    began = time.monotonic()
    worker.stop()
    assert time.monotonic() - began < 8


def test_waiting_events_go_back(site):
    """Held by a rate, not by a run: they are returned, not waited for."""
    site.handler("work.rated", "mark(event, ctx)", rate=1)
    worker = site.worker(shutdown_timeout_ms=30000)
    ids = {site.publish("work.rated") for _ in range(30)}
    site.redis.ping()
    wait("the first", lambda: site.marks())
    began = time.monotonic()
    worker.stop()
    assert time.monotonic() - began < 5
    done = {mark["id"] for mark in site.marks()}
    queue = site.queue("work.rated")
    wait("the rest", lambda: site.broker.depth(queue) == 30 - len(done))
    assert {m.properties.message_id for m in site.broker.drain(queue)} == ids - done
    assert {row[2] for row in site.ledger()} == done


def test_no_ack_of_a_busy_queue_is_forgotten(site):
    """Without an id nothing but the ack keeps an event from being run again. The handler ends out
    of order, so that each event is acked by itself."""
    site.handler("plain.event", "mark(event, ctx, event.payload.n)"
                                " ctx.sleep(event.payload.n % 2 * 400)", concurrency=300)
    body = [json.dumps({"event": "plain.event", "payload": {"n": n}}) for n in range(6000)]
    worker = site.worker(rabbitmq={"prefetch": 1000})
    for text in body:
        site.broker.publish(site.exchange, "plain.event", text, confirm=False)
    wait("some to be handled", lambda: worker.outcomes("processed") > 300)
    worker.stop()
    done = len(site.marks())
    assert done < len(body)
    queue = site.queue("plain.event")
    wait("the rest to be in the queue again",
         lambda: site.broker.depth(queue) + done >= len(body))
    assert site.broker.depth(queue) + done == len(body)
    again = site.worker(rabbitmq={"prefetch": 1000})
    wait("all to be handled", lambda: len(site.marks()) >= len(body), 90)
    site.assert_settled(again)
    notes = [mark["note"] for mark in site.marks()]
    assert len(notes) == len(set(notes)), f"{len(notes) - len(set(notes))} ran again"
