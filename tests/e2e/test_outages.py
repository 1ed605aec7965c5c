"""Servers go away and come back: nothing is lost, no attempt is spent, nothing needs a restart.
These tests stop servers, and start them again whatever happens."""
import collections
import contextlib
import os
import signal
import threading
import time
import uuid

import pytest

from harness.broker import DEAD, Broker
from harness.services import LADDER, NAMES
from harness.proxy import Proxy, through
from harness.standby import Standby
from harness.waiting import wait

# What every run leaves, whatever is rolled back, is a request; a row is left by a commit alone.
BODY = """
ctx.http.request{url = '%s/run/%s/' .. event.id .. '/' .. event.attempt}
ctx.redis.incr(MARKS .. ':count')
ctx.db.exec("insert into runs (event_id, attempt) values ($1, $2)", event.id, event.attempt)
"""


@pytest.fixture(autouse=True)
def put_back(services, site):
    """Before the site is taken down, which needs them."""
    yield
    services.start_all()


class Load(threading.Thread):
    """Publishes until told to stop; what the broker has not confirmed is published again."""

    def __init__(self, site, event_type, pause_s=0.005):
        super().__init__(daemon=True)
        self.site = site
        self.event_type = event_type
        self.pause_s = pause_s
        self.confirmed = []
        self.ending = threading.Event()

    def run(self):
        broker = Broker(self.site.services.rabbitmq_url)
        body = '{"event": "%s", "payload": {}}' % self.event_type
        event = str(uuid.uuid4())
        while not self.ending.wait(self.pause_s):
            try:
                broker.publish(self.site.exchange, self.event_type, body, message_id=event)
            except DEAD:
                broker.close()
                continue
            self.confirmed.append(event)
            event = str(uuid.uuid4())
        broker.close()

    def wait_more(self, count):
        target = len(self.confirmed) + count
        wait(f"{count} more events published", lambda: len(self.confirmed) >= target)

    def end(self):
        self.ending.set()
        self.join(90)
        assert not self.is_alive()
        return self.confirmed


def not_ready(worker):
    wait("/readyz to fail", lambda: worker.get("/readyz")[0] not in (200, 0))


@pytest.mark.parametrize("name", NAMES)
def test_a_server_stops_and_starts_under_load(site, services, web, name):
    site.handler("load.event", BODY % (web.url, site.prefix), concurrency=20)
    worker = site.worker(log={"level": "info"})
    process = worker.process.pid
    load = Load(site, "load.event")
    load.start()
    wait("the first runs", lambda: len(site.runs()) >= 50)
    services.stop(name)
    not_ready(worker)
    assert worker.get("/livez")[0] == 200
    if name != "rabbitmq":
        load.wait_more(50)
    services.start(name)
    worker.wait_ready(60)
    load.wait_more(100)
    ids = load.end()

    def all_ran():
        assert len(site.runs()) >= len(ids)
        return True

    wait("every event to be handled", all_ran, 60)
    assert collections.Counter(row[0] for row in site.runs()) == {event: 1 for event in ids}
    assert {row[2] for row in site.ledger()} == set(ids)
    runs = [path.split("/")[3:] for path in web.paths(f"/run/{site.prefix}/")]
    assert {event for event, _ in runs} == set(ids)
    assert {attempt for _, attempt in runs} == {"1"}, "an outage costs no attempt"
    assert worker.outcomes("retried") == worker.outcomes("failed") == 0
    assert not site.broker.depth(site.dead_letter)
    assert worker.process.pid == process and worker.running()
    site.redis.delete(site.marks_key + ":count")
    site.assert_settled(worker)


def test_rabbitmq_killed_while_200_handlers_run(site, services):
    """Exactly 200 runs, which end while it is away: what comes again after the restart is found in the
    ledger or in hand."""
    site.handler("long.one", """
        ctx.redis.rpush(MARKS .. ':began', event.id)
        while ctx.redis.exists(MARKS .. ':killed') == 0 do ctx.sleep(100) end
        ctx.redis.rpush(MARKS .. ':ended', event.id)""", concurrency=200, timeout_ms=600000)
    worker = site.worker(rabbitmq={"prefetch": 400}, log={"level": "info"})
    services.wait_for_directory(*site.queues, site.dead_letter)
    began, ended, killed = (f"{site.marks_key}:{name}" for name in ("began", "ended", "killed"))
    ids = {site.publish("long.one") for _ in range(200)}
    wait("all to run", lambda: site.redis.llen(began) == 200)
    services.kill("rabbitmq")
    site.redis.set(killed, 1)
    wait("all to end", lambda: site.redis.llen(ended) == 200)
    not_ready(worker)
    services.start("rabbitmq")
    worker.wait_ready(60)
    wait("the ledger's rows", lambda: ids <= {row[2] for row in site.ledger()}, 60)
    wait("an empty queue", lambda: site.broker.depth(site.queue("long.one")) == 0)
    site.assert_settled(worker)
    for key in (began, ended):
        assert collections.Counter(site.redis.lrange(key, 0, -1)) == {event: 1 for event in ids}
    site.redis.delete(began, ended, killed)


def test_postgres_killed_under_load(site, services, web):
    site.handler("load.event", BODY % (web.url, site.prefix), concurrency=20)
    worker = site.worker(log={"level": "info"})
    load = Load(site, "load.event")
    load.start()
    wait("the first runs", lambda: len(site.runs()) >= 50)
    services.kill("postgres")
    not_ready(worker)
    services.start("postgres")
    worker.wait_ready(60)
    load.wait_more(50)
    ids = load.end()
    wait("every event to be handled", lambda: len(site.runs()) >= len(ids), 60)
    assert collections.Counter(row[0] for row in site.runs()) == {event: 1 for event in ids}
    runs = [path.split("/")[3:] for path in web.paths(f"/run/{site.prefix}/")]
    assert {attempt for _, attempt in runs} == {"1"}
    site.redis.delete(site.marks_key + ":count")
    site.assert_settled(worker)


def test_postgres_fails_over_to_a_standby(site, services, web):
    """The primary dies, and a standby that every commit has waited for answers at the address."""
    site.handler("load.event", BODY % (web.url, site.prefix), concurrency=20, prefetch=40)
    with contextlib.closing(Proxy(services.port("postgres"))) as proxy, \
            contextlib.closing(Standby(services)) as standby:
        worker = site.worker(log={"level": "info"},
                             postgres={"url": through(site.database_url, proxy)})
        load = Load(site, "load.event")
        load.start()
        wait("the first runs", lambda: len(site.runs()) >= 50)
        standby.start()
        load.wait_more(100)
        services.kill("postgres")
        not_ready(worker)
        standby.promote()
        proxy.target = standby.port
        primary, site.database_url = site.database_url, standby.database(site.database_name)
        began = time.monotonic()
        first = site.publish("load.event")
        wait("its row", lambda: (first,) in site.runs(), 8)
        recovery_s = time.monotonic() - began
        load.wait_more(100)
        ids = [first, *load.end()]
        wait("every event to be handled", lambda: len(site.runs()) >= len(ids), 60)
        assert collections.Counter(site.runs()) == {(event,): 1 for event in ids}
        assert {row[2] for row in site.ledger()} == set(ids)
        runs = [path.split("/")[3:] for path in web.paths(f"/run/{site.prefix}/")]
        assert {attempt for _, attempt in runs} == {"1"}, "a failover costs no attempt"
        print(f"back after {recovery_s:.1f} s; {len(ids)} events, {len(runs) - len(ids)} runs doubled")
        assert len(runs) - len(ids) <= 40, "more than the worker held"
        site.redis.delete(site.marks_key + ":count")
        site.assert_settled(worker)
        site.database_url = primary


def test_an_answer_of_postgres_that_ends_in_its_middle(site, services):
    """The end of a connection may come together with the last that it had to say."""
    site.handler("load.event", "ctx.db.exec('insert into runs (event_id) values ($1)', event.id)")
    with contextlib.closing(Proxy(services.port("postgres"))) as proxy:
        worker = site.worker(postgres={
            "url": through(site.database_url, proxy, query="sslmode=disable")})
        handled_within(site, 30)
        for count in range(1, 800, 80):
            proxy.cut_after(count, answers=True)
            handled_within(site, 8)
        worker.stop()


def test_the_worker_killed_in_the_middle(site, web):
    site.handler("load.event", (BODY % (web.url, site.prefix)) + "ctx.sleep(20)", concurrency=20)
    ids = set()
    for _ in range(3):
        worker = site.worker(log={"level": "info"})
        ids |= {site.publish("load.event", confirm=False) for _ in range(200)}
        done = len(site.runs())
        wait("some of them", lambda at=done: len(site.runs()) >= at + 50)
        worker.kill()
    worker = site.worker()
    wait("all of them", lambda: len(site.runs()) >= len(ids))
    site.redis.delete(site.marks_key + ":count")
    site.assert_settled(worker)
    assert collections.Counter(row[0] for row in site.runs()) == {event: 1 for event in ids}
    runs = [path.split("/")[3:] for path in web.paths(f"/run/{site.prefix}/")]
    assert {attempt for _, attempt in runs} == {"1"}, "a crash costs no attempt"
    assert not site.broker.depth(site.dead_letter)


@pytest.mark.parametrize("name", NAMES)
def test_it_starts_with_a_server_away(site, services, name):
    site.handler("load.event", "mark(event, ctx)")
    services.stop(name)
    worker = site.worker(ready=False)
    worker.wait_log({"rabbitmq": "RabbitMQ", "postgres": "PostgreSQL", "redis": "Redis"}[name])
    wait("the admin pages", lambda: worker.get("/livez")[0] == 200)
    not_ready(worker)
    wait("/readyz to say who is away", lambda: name in worker.get("/readyz")[1].lower())
    services.start(name)
    worker.wait_ready(60)
    wait("its consumer", lambda: site.broker.consumers(site.queue("load.event")))
    event = site.publish("load.event")
    site.wait_marks(1, id=event)
    site.assert_settled(worker)


@pytest.mark.parametrize("name", NAMES)
def test_sigterm_ends_it_while_a_server_is_away(site, services, name):
    site.handler("load.event", "mark(event, ctx)")
    worker = site.worker(shutdown_timeout_ms=1000)
    services.stop(name)
    not_ready(worker)
    worker.stop(15)


def test_redis_away_costs_a_handler_no_attempt(site, services, web):
    """A handler that meets the outage in its middle is run again, from its beginning."""
    site.handler("needs.redis", f"""
        ctx.http.request{{url = '{web.url}/run/{site.prefix}/' .. event.attempt}}
        ctx.redis.incr(MARKS .. ':count')""", retry={"max": 0})
    worker = site.worker()
    services.stop("redis")
    event = site.publish("needs.redis")
    wait("a run", lambda: web.paths(f"/run/{site.prefix}/"))
    not_ready(worker)
    services.start("redis")
    worker.wait_outcomes("processed", 1)
    assert {path.rpartition("/")[2] for path in web.paths(f"/run/{site.prefix}/")} == {"1"}
    assert [row[2] for row in site.ledger()] == [event]
    site.redis.delete(site.marks_key + ":count")
    site.assert_settled(worker)


def runs_of(web, site):
    """How often each event ran, whatever became of it."""
    paths = web.paths(f"/run/{site.prefix}/")
    assert {path.rpartition("/")[2] for path in paths} <= {"1"}, "an outage costs no attempt"
    return collections.Counter(path.split("/")[3] for path in paths)


def test_an_event_runs_once_more_when_redis_is_back(site, services, web):
    """However long that takes; and those that do without go on, though the others are more than half
    of what the queue's consumer may hold."""
    site.handler("may.need", f"""
        ctx.http.request{{url = '{web.url}/run/{site.prefix}/' .. event.id .. '/' .. event.attempt}}
        if event.payload.redis then ctx.redis.incr(MARKS .. ':count') end""",
                 retry={"max": 0}, concurrency=5, prefetch=10)
    worker = site.worker()
    services.stop("redis")
    not_ready(worker)
    needs, does_not = set(), set()
    for number in range(60):
        needs_it = number % 3 == 0
        (needs if needs_it else does_not).add(site.publish("may.need", {"redis": needs_it}))
    worker.wait_outcomes("processed", len(does_not))
    wait("all to run", lambda: set(runs_of(web, site)) == needs | does_not)
    time.sleep(6)  # before, each ran again after 1, 3 and 7 s
    assert set(runs_of(web, site).values()) == {1}
    services.start("redis")
    worker.wait_outcomes("processed", 60)
    assert runs_of(web, site) == {**dict.fromkeys(needs, 2), **dict.fromkeys(does_not, 1)}
    assert site.redis.get(site.marks_key + ":count") == str(len(needs))
    site.redis.delete(site.marks_key + ":count")
    site.assert_settled(worker)


def test_a_postgres_that_cannot_write_sees_few_events(site, web):
    """A full disk, or too many connections: it answers, so nothing but trying tells when it is over."""
    site.rows("create table full_disk ()")
    site.rows("""create function fail() returns trigger language plpgsql as $$ begin
        if exists (select from full_disk) then raise 'no space left on device' using errcode = '53100';
        end if; return new; end $$""")
    site.rows("create trigger full_disk before insert on runs for each row execute function fail()")
    site.handler("load.event", f"""
        ctx.http.request{{url = '{web.url}/run/{site.prefix}/' .. event.id .. '/' .. event.attempt}}
        ctx.db.exec("insert into runs (event_id) values ($1)", event.id)""",
                 retry={"max": 0}, concurrency=5, prefetch=40)
    worker = site.worker()
    site.rows("insert into full_disk default values")
    ids = {site.publish("load.event") for _ in range(100)}
    wait("a few runs", lambda: len(runs_of(web, site)) >= 8)
    time.sleep(6)
    assert sum(runs_of(web, site).values()) < 30
    site.rows("delete from full_disk")
    wait("their rows", lambda: {row[0] for row in site.runs()} == ids)
    assert sum(runs_of(web, site).values()) < 140
    assert max(runs_of(web, site).values()) <= 4
    site.assert_settled(worker)


@pytest.mark.parametrize("count, delay_s", [
    (100, 4), pytest.param(10000, 60, marks=pytest.mark.full)])
def test_retries_outlive_a_broker_that_is_down_for_longer_than_their_delay(site, services, count,
                                                                         delay_s):
    """Events that wait for their retry wait in the broker: a crash of it forgets none. RabbitMQ tries
    again after three minutes to move one to a queue that was not there yet when it started."""
    site.handler("waits.long", """
        ctx.redis.sadd(MARKS .. ':' .. event.attempt, event.id)
        if event.attempt == 1 then error('once') end""",
                 retry={"max": 1, "base_ms": delay_s * 1000, "cap_ms": delay_s * 1000},
                 concurrency=50)
    worker = site.worker(log={"level": "info"})
    services.wait_for_directory(*site.queues, site.dead_letter, *LADDER)
    ids = {site.publish("waits.long", confirm=False) for _ in range(count)}
    worker.wait_outcomes("retried", count, timeout_s=30 + count / 100)
    first, second = site.marks_key + ":1", site.marks_key + ":2"
    assert site.redis.scard(first) == count and not site.redis.exists(second), "too late"
    services.kill("rabbitmq")
    time.sleep(delay_s + 2)
    services.start("rabbitmq")
    wait("their records", lambda: {row[2] for row in site.ledger()} == ids, 240 + count / 50)
    assert site.redis.smembers(second) == ids
    assert not site.broker.depth(site.dead_letter)
    site.redis.delete(first, second)
    worker.wait_ready(60)
    site.assert_settled(worker)


def handled_within(site, limit_s):
    """An event that is published now."""
    began = time.monotonic()
    event = site.publish("load.event")
    wait("its row", lambda: (event,) in site.runs(), limit_s)
    return time.monotonic() - began


@pytest.mark.parametrize("name, away_s, limit_s", [
    ("postgres", 10, 8), ("rabbitmq", 10, 8),
    pytest.param("postgres", 120, 5, marks=pytest.mark.full),
    pytest.param("postgres", 600, 5, marks=pytest.mark.full),
    pytest.param("rabbitmq", 120, 5, marks=pytest.mark.full)])
def test_a_server_that_was_away_for_long_is_found_again_at_once(
        site, services, web, name, away_s, limit_s):
    """And no event has paid for it with an attempt."""
    site.handler("load.event", BODY % (web.url, site.prefix), concurrency=20)
    worker = site.worker(log={"level": "info"})
    waiting = set()
    handled_within(site, 30)
    services.stop(name)
    not_ready(worker)
    over = time.monotonic() + away_s
    while time.monotonic() < over:
        if name != "rabbitmq":
            waiting.add(site.publish("load.event"))
        status, text = worker.get("/readyz")
        assert status == 503 and (name in text.lower() or "no live consumer" in text)
        time.sleep(0.25)
    services.start(name)
    recovery_s = handled_within(site, limit_s)
    print(f"{name}, away for {away_s} s: back after {recovery_s:.1f} s")
    wait("those that waited", lambda: waiting <= {row[0] for row in site.runs()}, 60)
    assert set(site.runs("attempt")) == {(1,)}
    assert {path.rpartition("/")[2] for path in web.paths(f"/run/{site.prefix}/")} == {"1"}
    assert worker.outcomes("retried") == worker.outcomes("failed") == 0
    assert not site.broker.depth(site.dead_letter)
    worker.wait_ready(60)
    site.redis.delete(site.marks_key + ":count")
    site.assert_settled(worker)


@contextlib.contextmanager
def redis_away(services, way):
    """Killed, or stopped: it takes connections, and never answers."""
    pid = services.pid("redis")
    if way == "killed":
        services.kill("redis")
    else:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        if way == "hanging":
            os.kill(pid, signal.SIGCONT)
        services.start("redis")


def drained_per_s(site, number, count):
    """The rate at which a full queue is emptied, by the times in the ledger."""
    queue = site.queue(f"full-{number}")
    site.broker.declare(queue, **{"x-queue-type": "quorum", "x-delivery-limit": 1000000,
                                  "x-dead-letter-exchange": "", "x-overflow": "reject-publish",
                                  "x-dead-letter-strategy": "at-least-once",
                                  "x-dead-letter-routing-key": site.dead_letter})
    for _ in range(count):
        site.broker.publish("", queue, '{"event": "plain.event", "payload": {}}',
                            message_id=str(uuid.uuid4()), confirm=False)
    wait("a full queue", lambda: site.broker.depth(queue) == count)
    handler = site.handler(f"full-{number}", "", events=["plain.event"], queue=queue,
                           concurrency=200, prefetch=500)
    rows = "select count(*), extract(epoch from max(processed_at) - min(processed_at))::float8 " \
           "from processed_events where queue = %s"
    wait("their records", lambda: site.rows(rows, queue)[0][0] == count, 120)
    handler.unlink()
    return count / site.rows(rows, queue)[0][1]


@pytest.mark.alone
@pytest.mark.full
@pytest.mark.parametrize("way", ["killed", "hanging"])
def test_events_that_need_no_redis_are_as_fast_without_it(site, services, way):
    """Nearly, while others, which need it, wait for it: as long as any event of a lane is not settled,
    the acks of those behind it are single ones, which shows at full speed. What else a machine does
    only makes a round slower, so the best ones are compared."""
    site.handler("needs.redis", "ctx.redis.incr(MARKS .. ':count')", concurrency=50)
    worker = site.worker(log={"level": "info"})
    waiting = set()
    drained_per_s(site, "warm", 2000)
    usual, alone, beside = [], [], []
    for number in range(4):
        usual.append(drained_per_s(site, f"usual-{number}", 30000))
        with redis_away(services, way):
            not_ready(worker)
            alone.append(drained_per_s(site, f"alone-{number}", 30000))
            waiting |= {site.publish("needs.redis") for _ in range(50)}
            beside.append(drained_per_s(site, f"beside-{number}", 30000))
        worker.wait_ready(60)
    print(f"{way}: {max(usual):.0f} events/s as usual, {max(alone):.0f} without Redis, "
          f"{max(beside):.0f} while others wait for it")
    assert max(alone) >= 0.8 * max(usual)
    assert max(beside) >= 0.4 * max(usual)
    wait("those that waited", lambda: waiting <= {row[2] for row in site.ledger()
                                                  if row[1] == "needs.redis"}, 60)
    site.redis.delete(site.marks_key + ":count")
    site.assert_settled(worker)


STUCK_S = 25


@pytest.mark.full
@pytest.mark.parametrize("name", NAMES)
def test_a_trickle_holds_up_no_thread(site, services, web, name):
    """One byte a second to and from a server, for longer than any thread may be stuck: the pages
    answer, every connection with something to say is given up and made again, and the worker ends
    when it is told to. Nothing is lost by it."""
    site.handler("load.event", BODY % (web.url, site.prefix), concurrency=20)
    urls = {"rabbitmq": services.rabbitmq_url, "postgres": site.database_url,
            "redis": services.redis_url}
    with contextlib.closing(Proxy(services.port(name))) as proxy:
        worker = site.worker(shutdown_timeout_ms=1000, **{name: {"url": through(urls[name], proxy)}})
        load = Load(site, "load.event")
        load.start()
        wait("the first runs", lambda: len(site.runs()) >= 50)
        proxy.slow(1)
        began = time.monotonic()
        longest_s = 0
        given_up_s = None
        while time.monotonic() - began < STUCK_S + 10:
            asked = time.monotonic()
            status, _ = worker.get("/readyz", STUCK_S)
            longest_s = max(longest_s, time.monotonic() - asked)
            if given_up_s is None and status == 503:
                given_up_s = time.monotonic() - began
            time.sleep(0.05)
        ids = load.end()
        told = time.monotonic()
        worker.stop(STUCK_S)
        ended_s = time.monotonic() - told
        assert longest_s < 5
        assert given_up_s is not None
        print(f"{name}: pages after {longest_s:.2f} s at the longest, a connection given up after "
              f"{given_up_s:.1f} s, ended after {ended_s:.1f} s")
        proxy.mend()
    last = site.worker()
    wait("every event to be handled", lambda: len(site.runs()) >= len(ids), 60)
    assert collections.Counter(site.runs()) == {(event,): 1 for event in ids}
    assert not site.broker.depth(site.dead_letter)
    site.redis.delete(site.marks_key + ":count")
    site.assert_settled(last)


@pytest.mark.full
def test_livez_fails_without_a_consumer_for_long(site, services):
    site.handler("load.event", "mark(event, ctx)")
    worker = site.worker()
    services.stop("rabbitmq")
    wait("/livez to fail", lambda: worker.get("/livez")[0] == 503, 300)
    services.start("rabbitmq")
    wait("/livez to recover", lambda: worker.get("/livez")[0] == 200, 60)
