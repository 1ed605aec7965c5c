"""A finished event is not run again: by id, type and queue."""
import collections
import random
import threading
import uuid

import pytest

from harness.broker import Broker
from harness.waiting import wait

SLOW = "ctx.redis.rpush(MARKS .. ':runs', event.id) ctx.sleep(60) mark(event, ctx)"


@pytest.fixture(scope="module")
def worker(shared):
    shared.handler("thing.made", "mark(event, ctx)")
    shared.handler("thing.slow", "ctx.sleep(300) mark(event, ctx)")
    shared.handler("pair.first", "mark(event, ctx)", queue=shared.queue("pair"))
    shared.handler("pair.second", "mark(event, ctx)", queue=shared.queue("pair"))
    shared.handler("both-left", "mark(event, ctx)", events=["thing.both"])
    shared.handler("both-right", "mark(event, ctx)", events=["thing.both"])
    shared.handler("thing.named", "mark(event, ctx)", id="payload.order.number")
    shared.handler("thing.hashed", "mark(event, ctx)", id="hash")
    return shared.worker()


def test_the_second_of_two_with_one_id_is_skipped(shared, worker):
    before = worker.outcomes("duplicate")
    shared.publish("thing.made", message_id="twice")
    shared.wait_marks(1, id="twice")
    worker.wait_outcomes("processed", 1, event="thing.made")
    shared.publish("thing.made", message_id="twice")
    worker.wait_outcomes("duplicate", before + 1)
    assert len(shared.marks(id="twice")) == 1
    assert shared.ledger().count((shared.queue("thing.made"), "thing.made", "twice")) == 1
    assert worker.log.records("already processed", id="twice", event="thing.made")


def test_a_second_delivery_joins_the_one_in_hand(shared, worker):
    for _ in range(5):
        shared.publish("thing.slow", message_id="joined")
    worker.wait_outcomes("processed", 1, event="thing.slow")
    worker.wait_outcomes("duplicate", 4, event="thing.slow")
    assert len(shared.marks(id="joined")) == 1
    wait("a line for each", lambda: len(worker.log.records(
        "already processed", id="joined", event="thing.slow")) == 4, 5)


def test_one_id_in_two_types_of_one_queue_is_two_events(shared, worker):
    shared.publish("pair.first", message_id="same")
    shared.publish("pair.second", message_id="same")
    marks = shared.wait_marks(2, id="same")
    assert {mark["type"] for mark in marks} == {"pair.first", "pair.second"}


def test_one_event_bound_to_two_queues_is_handled_in_both(shared, worker):
    event = shared.publish("thing.both")
    marks = shared.wait_marks(2, id=event)
    assert {mark["queue"] for mark in marks} == {shared.queue("both-left"),
                                                 shared.queue("both-right")}
    wait("both rows", lambda: sum(row[2] == event for row in shared.ledger()) == 2)


def test_a_handler_may_name_where_the_id_is(shared, worker):
    payload = {"order": {"number": 9007199254740993}}
    shared.publish("thing.named", payload)
    shared.publish("thing.named", payload)
    worker.wait_outcomes("duplicate", 1, event="thing.named")
    assert [mark["id"] for mark in shared.marks(type="thing.named")] == ["9007199254740993"]


def test_an_event_without_an_id_may_be_told_by_its_content(shared, worker):
    shared.publish("thing.hashed", {"n": 1}, message_id=None)
    shared.publish("thing.hashed", {"n": 1}, message_id=None)
    shared.publish("thing.hashed", {"n": 2}, message_id=None)
    worker.wait_outcomes("processed", 2, event="thing.hashed")
    worker.wait_outcomes("duplicate", 1, event="thing.hashed")
    assert len({mark["id"] for mark in shared.marks(type="thing.hashed")}) == 2


def test_a_duplicate_is_known_to_the_next_worker(site):
    site.handler("thing.made", "mark(event, ctx)")
    first = site.worker()
    event = site.publish("thing.made")
    site.wait_marks(1, id=event)
    first.stop()
    second = site.worker()
    site.publish("thing.made", message_id=event)
    second.wait_outcomes("duplicate", 1)
    assert len(site.marks()) == 1


def test_one_id_delivered_to_two_workers_at_the_same_moment_runs_once(site):
    """Fifty times: the broker deals the two copies to the two workers in turn."""
    site.handler("thing.made", SLOW)
    workers = [site.worker(), site.worker()]
    queue = site.queue("thing.made")
    wait("both to consume", lambda: site.broker.consumers(queue) == 2)
    ids = [str(uuid.uuid4()) for _ in range(50)]
    for event in ids:
        site.publish("thing.made", message_id=event, confirm=False)
        site.publish("thing.made", message_id=event, confirm=False)

    def settled(worker):
        metrics = worker.metrics()
        return sum(metrics.sum("leveret_events_total", outcome=name)
                   for name in ("processed", "duplicate"))

    wait("a hundred deliveries settled", lambda: sum(map(settled, workers)) == 100)
    assert [settled(worker) for worker in workers] == [50, 50]
    runs = collections.Counter(site.redis.lrange(site.marks_key + ":runs", 0, -1))
    site.redis.delete(site.marks_key + ":runs")
    assert runs == {event: 1 for event in ids}
    assert len(site.ledger()) == 50


def test_a_claim_dies_with_its_holder(site):
    """One worker holds the event, the other waits with a copy of it, and runs it when the first is
    killed."""
    site.handler("thing.made", """
        mark(event, ctx)
        if ctx.redis.incr(MARKS .. ':runs') == 1 then ctx.sleep(600000) end""", timeout_ms=700000)
    workers = [site.worker(), site.worker()]
    queue = site.queue("thing.made")
    wait("both to consume", lambda: site.broker.consumers(queue) == 2)
    for _ in range(2):
        site.publish("thing.made", message_id="held")
    wait("one to run it", lambda: sum(w.metric("leveret_in_flight") for w in workers) == 1)
    holder, other = sorted(workers, key=lambda w: -w.metric("leveret_in_flight"))
    assert other.outcomes("duplicate") == 0
    holder.kill()
    other.wait_outcomes("processed", 1)
    other.wait_outcomes("duplicate", 1)
    assert [mark["attempt"] for mark in site.marks(id="held")] == [1, 1]
    site.redis.delete(site.marks_key + ":runs")
    site.assert_settled(other)


def test_20000_events_with_every_tenth_id_repeated(site, redis):
    site.handler("thing.made", "ctx.redis.rpush(MARKS, event.id)", concurrency=200)
    worker = site.worker(rabbitmq={"prefetch": 500}, log={"level": "info"})
    ids = [f"id-{number - 1 if number % 10 == 9 else number}" for number in range(20000)]
    for event in ids:
        site.publish("thing.made", {"n": 1}, message_id=event, confirm=False)

    def settled():
        metrics = worker.metrics()
        return (metrics.sum("leveret_events_total", outcome="processed"),
                metrics.sum("leveret_events_total", outcome="duplicate")) == (18000, 2000)

    wait("18,000 processed and 2,000 duplicates", settled, 180)
    runs = redis.lrange(site.marks_key, 0, -1)
    assert len(runs) == 18000 and set(runs) == set(ids)
    rows = site.rows("select count(*), count(distinct event_id) from processed_events")
    assert rows == [(18000, 18000)]
    site.assert_settled(worker)


def publish_all(site, ids):
    """Confirmed: of what is not, a quorum queue may lose some when its channel is closed."""
    broker = Broker(site.services.rabbitmq_url)
    for event in ids:
        broker.publish("", site.queue("thing.made"), '{"event": "thing.made", "payload": {}}',
                       message_id=event)
    broker.close()


@pytest.mark.parametrize("count", [200, pytest.param(5000, marks=pytest.mark.full)])
def test_ten_copies_of_each_by_four_publishers_to_two_workers(site, count):
    """In any order, some at once and some when the first is long done; half of them write to the
    database. One run, one record, one row each."""
    site.handler("thing.made", """
        ctx.redis.rpush(MARKS .. ':runs', event.id)
        ctx.sleep(tonumber(event.id:sub(-1)) * 10)
        if event.id:sub(1, 2) == 'db' then
          ctx.db.exec('insert into runs (event_id) values ($1)', event.id)
        end""", concurrency=50)
    workers = [site.worker(lanes=2, log={"level": "info"}) for _ in range(2)]
    wait("all lanes to consume", lambda: site.broker.consumers(site.queue("thing.made")) == 4)
    ids = [f"{'db' if number % 2 else 'no'}-{number}" for number in range(count)]
    copies = ids * 10
    random.Random(count).shuffle(copies)
    threads = [threading.Thread(target=publish_all, args=(site, copies[part::4]))
               for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    def settled(outcome):
        return sum(worker.outcomes(outcome) for worker in workers)

    def all_settled():
        seen = (settled("processed"), settled("duplicate"),
                site.broker.depth(site.queue("thing.made")),
                sum(worker.metric("leveret_in_flight") for worker in workers))
        assert seen == (count, 9 * count, 0, 0), \
            "processed %d, duplicates %d, ready %d, in flight %d" % seen
        return True

    wait("all copies to be settled", all_settled, 60 + count / 50)
    runs = collections.Counter(site.redis.lrange(site.marks_key + ":runs", 0, -1))
    site.redis.delete(site.marks_key + ":runs")
    assert runs == {event: 1 for event in ids}
    assert collections.Counter(site.runs()) == {(event,): 1 for event in ids[1::2]}
    assert len(site.ledger()) == count
    assert not site.broker.depth(site.dead_letter)
    for worker in workers:
        site.assert_settled(worker)
