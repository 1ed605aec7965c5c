"""The transactional outbox: an event is published exactly when the transaction commits that wrote
it, whatever crashes in between."""
import contextlib
import threading

import pytest

from harness.site import connect
from harness.waiting import wait

COUNTED = """
mark(event, ctx)
ctx.db.exec('insert into runs (event_id, type) values ($1, $2)', event.id, event.type)
"""
RELAYED = """
ctx.db.exec('insert into runs (event_id, type) values ($1, $2)', event.id, event.type)
local id = ctx.publish('stock.counted', { from = event.id }, { id = 'after-' .. event.id })
"""


def unsent(site):
    return site.rows("select count(*) from outbox where sent_at is null")[0][0]


def set_up(site, **options):
    site.handler("stock.moved", RELAYED + "mark(event, ctx, id)"
                 "if event.payload.fail then error('rolled back') end",
                 retry={"max": 0})
    site.handler("stock.counted", "mark(event, ctx)", **options)
    return site.worker()


def test_an_event_leaves_with_the_commit(site):
    worker = set_up(site)
    moved = site.publish("stock.moved", {})
    site.wait_marks(1, type="stock.counted", id="after-" + moved)
    wait("the row to be marked", lambda: unsent(site) == 0)
    assert worker.metric("leveret_outbox_relay") == 1
    wait("the gauge", lambda: worker.metric("leveret_outbox_pending") == 0)
    site.assert_settled(worker)


def test_an_event_of_a_transaction_that_rolled_back_never_leaves(site):
    worker = set_up(site)
    site.publish("stock.moved", {"fail": True})
    site.dead()
    moved = site.publish("stock.moved", {})
    site.wait_marks(1, type="stock.counted", id="after-" + moved)
    assert site.rows("select count(*) from outbox") == [(1,)]
    assert len(site.marks(type="stock.counted")) == 1
    site.assert_settled(worker)


def test_any_program_publishes_with_one_call(site):
    worker = set_up(site)
    event_id = site.rows("""select leveret_publish('stock.counted', '{"n": 1}', priority => 4,
                            delay => '1 s', headers => '{"x-own": "a"}')""")[0][0]
    site.wait_marks(1, id=event_id)
    site.assert_settled(worker)


def test_wrong_rows_and_rows_that_nobody_takes_hold_up_nothing(site):
    worker = set_up(site)
    site.rows("""insert into outbox (event, payload) values ('stock.counted', '[1]'),
                 ('nobody.takes.it', '{}'), ('stock.counted', '"text"')""")
    site.rows("insert into outbox (event, payload, exchange) values ('e', '{}', 'no.exchange')")
    good = site.rows("select leveret_publish('stock.counted', '{}')")[0][0]
    site.wait_marks(1, id=good)
    wait("the wrong rows to be marked", lambda: site.rows(
        "select count(*) from outbox where failed_at is not null "
        "and error like '%not a JSON object'") == [(2,)])
    wait("the others to be tried again", lambda: site.rows(
        "select count(*) from outbox where tries > 1 and sent_at is null") == [(2,)])
    # a refused exchange closes the channel, and what is in flight is sent again
    site.rows("delete from outbox where exchange is not null")
    queue = site.queue("late")
    site.queues.add(queue)
    site.broker.declare(queue, bind=(site.exchange, "nobody.takes.it"))
    wait("the message", lambda: site.broker.get(queue))
    site.assert_settled(worker)


def test_events_of_one_key_leave_in_order(site):
    worker = set_up(site)
    queue = site.queue("ordered")
    site.queues.add(queue)
    site.broker.declare(queue, bind=(site.exchange, "ordered"))
    site.rows("""select leveret_publish('ordered', jsonb_build_object('n', n), key => 'k' || n % 3,
                 id => n::text) from generate_series(1, 300) n""")
    wait("all of them", lambda: site.broker.depth(queue) == 300)
    numbers = [int(message.properties.message_id) for message in site.broker.drain(queue)]
    for key in range(3):
        of_key = [number for number in numbers if number % 3 == key]
        assert of_key == sorted(of_key)
    site.assert_settled(worker)


def test_another_worker_takes_over_when_the_relay_dies(site):
    first = set_up(site)
    wait("the relay", lambda: first.metric("leveret_outbox_relay") == 1)
    second = site.worker()
    assert second.metric("leveret_outbox_relay") == 0
    first.kill()
    event_id = site.rows("select leveret_publish('stock.counted', '{}')")[0][0]
    site.wait_marks(1, id=event_id, timeout_s=10)
    assert second.metric("leveret_outbox_relay") == 1
    site.assert_settled(second)


def test_an_orderly_restart_sends_nothing_twice(site):
    worker = set_up(site)
    queue = site.queue("once")
    site.broker.declare(queue, bind=(site.exchange, "once"))
    site.rows("select leveret_publish('once', '{}') from generate_series(1, 20000)")
    wait("some to be sent", lambda: unsent(site) < 20000)
    worker.stop()
    assert unsent(site) > 0  # or it proves nothing
    assert site.broker.depth(queue) + unsent(site) == 20000
    worker = site.worker()
    site.queues.add(queue)  # which nobody consumes
    wait("the rest", lambda: unsent(site) == 0)
    assert site.broker.depth(queue) == 20000
    worker.stop()


def relay_through_broker_deaths(site, rows, deaths):
    """Commits that many rows, ten at a time, while the broker is killed and started again."""
    services = site.services
    site.handler("stock.counted", "return", concurrency=1000, prefetch=2000)
    worker = site.worker(timeout_ms=60000)
    services.wait_for_directory(site.queue("stock.counted"), site.dead_letter)
    failure = []

    def write():
        try:
            for _ in range(rows // 10):
                site.rows("""select leveret_publish('stock.counted', '{"n": 1}')
                             from generate_series(1, 10)""")
        except Exception as error:  # noqa: BLE001: told by the test's own thread
            failure.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    for death in range(deaths):
        wait(f"rows before death {death + 1}", lambda part=death + 1: site_count(site) >=
             rows * part // (deaths + 1) or failure, 300)
        services.kill("rabbitmq")
        services.start("rabbitmq")
    writer.join()
    assert not failure, failure[0]
    wait("every row to be sent", lambda: unsent(site) == 0, 300)
    wait("every event in the ledger", lambda: site.rows(
        "select count(*) from processed_events") == [(rows,)], 300)
    assert site.rows("""select count(*) from outbox o join processed_events p
                        on p.event_id = o.event_id""") == [(rows,)]
    site.assert_settled(worker)


def site_count(site):
    """Asked on a connection of its own: the writer has the site's."""
    with contextlib.closing(connect(site.database_url)) as connection:
        with connection.cursor() as cursor:
            cursor.execute("select count(*) from outbox")
            return cursor.fetchone()[0]


def test_rows_written_while_the_broker_dies_twice_arrive(site):
    relay_through_broker_deaths(site, 10000, 2)


@pytest.mark.full
def test_100_000_rows_written_while_the_broker_dies_five_times_arrive(site):
    relay_through_broker_deaths(site, 100000, 5)


def killed_again_and_again(site, kills, events):
    site.handler("stock.moved", RELAYED)
    site.handler("stock.counted", COUNTED)
    site.worker().stop()  # declares the queues
    for number in range(events):
        site.publish("stock.moved", message_id=f"m{number}", confirm=False)
    for kill in range(kills):
        worker = site.worker(ready=False)
        wait("progress", lambda part=kill + 1: site.rows("select count(*) from runs")[0][0] >=
             2 * events * part // (kills + 2) or not worker.running(), 60)
        worker.kill()
    worker = site.worker()
    wait("every event's two runs", lambda: site.rows(
        "select count(*) from runs") == [(2 * events,)], 120)
    assert site.rows("""select type, count(*), count(distinct event_id) from runs
                        group by 1 order by 1""") == [
        ("stock.counted", events, events), ("stock.moved", events, events)]
    site.assert_settled(worker)


def test_kills_between_commit_and_publish_lose_neither(site):
    killed_again_and_again(site, 5, 400)


@pytest.mark.full
def test_kills_between_commit_and_publish_lose_neither_often(site):
    killed_again_and_again(site, 40, 4000)
