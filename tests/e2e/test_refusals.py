"""What RabbitMQ refuses meanwhile: a right that is taken away, a dead-letter queue that is gone, a
delay queue that nothing leads to. What cannot go on stays where it is, the log says so, others do not
notice, and once it is put right all of it goes its way."""
import collections
import contextlib
import time

import pytest

from harness.proxy import Proxy
from harness.waiting import wait

USER = "limited"
COUNT = 20
ALARM_S = 5
# What was refused is sent again after 1, 2, 4, 8, 16, then every 30 s.
AGAIN_S = 35
LEVEL = "leveret.delay.00"  # where a retry after 250 ms waits
UNDELIVERED = "leveret.undelivered"
RETRY = "mark(event, ctx) if event.attempt == 1 then error('once') end"
ONCE = {"max": 1, "base_ms": 250}
# The binding key of this level for "wait here".
WAITS = "w.#"


def all_but(*names):
    """A pattern of all names but these, which are patterns, too."""
    return f"^(?!({'|'.join(names)})$).*"


def exactly(name):
    return name.replace(".", r"\.")


@pytest.fixture
def limited(services):
    """The worker's user, which may do everything until a test thinks otherwise."""
    services.permit(USER)
    yield USER
    services.permit(USER)


def address(port):
    return f"amqp://{USER}:{USER}@127.0.0.1:{port}/"


def wait_alarm(worker, pattern, since):
    """A warning or an error in the log, within ALARM_S of the moment."""
    wait(f"an alarm {pattern!r}", lambda: [
        record for record in worker.log.records(pattern) if record["level"] in ("warn", "error")])
    took_s = time.monotonic() - since
    print(f"alarm after {took_s:.2f} s")
    assert took_s <= ALARM_S


def runs_of(site, event_type):
    return collections.Counter((mark["id"], mark["attempt"])
                               for mark in site.marks(type=event_type))


def dead_ids(site):
    return collections.Counter(letter.properties.message_id
                               for letter in site.broker.drain(site.dead_letter))


def publish_some(site):
    """Events that need the delay queues, and others that need the dead-letter queue."""
    return ([site.publish("has.retry", {"n": n}) for n in range(COUNT)],
            [site.publish("is.dead", {"n": n}) for n in range(COUNT)])


def assert_all_went_on(site, retried, dead):
    found = collections.Counter()

    def went_on():
        found.update(dead_ids(site))
        assert {row[2] for row in site.ledger() if row[1] == "has.retry"} == set(retried)
        return set(found) == set(dead)

    wait("retries and dead letters", went_on, AGAIN_S)
    assert runs_of(site, "has.retry") == {(event, n): 1 for event in retried for n in (1, 2)}
    assert runs_of(site, "is.dead") == {(event, 1): 1 for event in dead}
    assert found == {event: 1 for event in dead}


def assert_others_work(site, count=20):
    for event in [site.publish("good.event") for _ in range(count)]:
        site.wait_marks(1, 5, id=event)


@pytest.fixture
def handlers(site):
    site.handler("has.retry", RETRY, retry=ONCE, concurrency=COUNT)
    site.handler("is.dead", "mark(event, ctx) ctx.reject('never')", concurrency=COUNT)
    site.handler("good.event", "mark(event, ctx)")
    return site


@pytest.fixture
def proxy(services):
    with contextlib.closing(Proxy(services.port("rabbitmq"))) as mine:
        yield mine


def test_the_right_to_write_is_revoked_and_given_back(handlers, services, limited, proxy):
    site = handlers
    worker = site.worker(rabbitmq={"url": address(proxy.port)})
    services.permit(USER, write=all_but(r"leveret\.delay\..*", r"amq\.default"))
    before = proxy.accepted
    began = time.monotonic()
    retried, dead = publish_some(site)
    wait_alarm(worker, "did not take a retry.*ACCESS_REFUSED", began)
    wait_alarm(worker, "did not take a dead letter.*ACCESS_REFUSED", began)
    assert_others_work(site)
    assert worker.metric("leveret_in_flight") == 2 * COUNT
    assert site.broker.depth(site.dead_letter) == 0
    made = proxy.accepted - before
    services.permit(USER)
    began = time.monotonic()
    assert_all_went_on(site, retried, dead)
    print(f"went on after {time.monotonic() - began:.1f} s; {made} connections meanwhile")
    assert made <= COUNT, "a connection for each event that is refused"
    site.assert_settled(worker)


def test_the_right_to_read_is_revoked_and_given_back(site, services, limited, proxy):
    """Of one queue: the consumer that there is goes on, and a new one is refused. The others' must not
    end with it."""
    site.handler("has.retry", RETRY, retry=ONCE)
    site.handler("good.event", "mark(event, ctx)")
    refused = site.queue("has.retry")
    worker = site.worker(rabbitmq={"url": address(proxy.port)})
    services.permit(USER, read=all_but(exactly(refused)))
    proxy.cut()
    began = time.monotonic()
    wait_alarm(worker, f"refused.*{refused}|{refused}.*refused", began)
    wait("/readyz to fail", lambda: worker.get("/readyz")[0] == 503)
    ids = [site.publish("has.retry") for _ in range(COUNT)]
    over = time.monotonic() + 10
    while time.monotonic() < over:
        assert_others_work(site, 1)
    assert worker.get("/readyz")[0] == 503
    assert worker.get("/livez")[0] == 200
    services.permit(USER)
    began = time.monotonic()
    wait("all to be handled", lambda: {row[2] for row in site.ledger()} >= set(ids), AGAIN_S)
    print(f"went on after {time.monotonic() - began:.1f} s")
    worker.wait_ready()
    assert runs_of(site, "has.retry") == {(event, n): 1 for event in ids for n in (1, 2)}
    assert set(runs_of(site, "good.event").values()) == {1}
    site.assert_settled(worker)


def test_a_dead_letter_queue_that_is_gone(handlers, services, limited):
    """It comes back with nobody's help; where the worker may not declare it, when somebody does."""
    site = handlers
    worker = site.worker(rabbitmq={"url": address(services.port("rabbitmq"))})
    site.broker.delete(site.dead_letter)
    event = site.publish("is.dead", {"n": 0})
    assert site.dead().properties.message_id == event

    services.permit(USER, configure=all_but(exactly(site.dead_letter)))
    site.broker.delete(site.dead_letter)
    began = time.monotonic()
    ids = [site.publish("is.dead", {"n": n}) for n in range(COUNT)]
    wait_alarm(worker, "did not take a dead letter.*there is no queue", began)
    wait("all to be in hand", lambda: worker.metric("leveret_in_flight") == COUNT)
    assert_others_work(site)
    site.broker.declare(site.dead_letter, **{"x-queue-type": "quorum"})
    began = time.monotonic()
    found = collections.Counter()

    def all_dead():
        found.update(dead_ids(site))
        return set(found) == set(ids)

    wait("dead letters", all_dead, AGAIN_S)
    print(f"went on after {time.monotonic() - began:.1f} s")
    assert found == {event: 1 for event in ids}
    site.assert_settled(worker)


@pytest.fixture
def unbound(broker):
    """Takes away bindings, and puts them back."""
    taken = []

    def take(queue, exchange, key):
        taken.append((queue, exchange, key))
        broker.channel("ask").queue_unbind(queue, exchange, key)

    def put_back():
        while taken:
            broker.channel("ask").queue_bind(*taken.pop())

    take.put_back = put_back
    yield take
    put_back()


def test_a_retry_whose_delay_queue_is_not_bound(handlers, services, limited, unbound):
    """It is found among what could not be delivered, with its body, and dlq sends it back."""
    site = handlers
    worker = site.worker(rabbitmq={"url": address(services.port("rabbitmq"))})
    unbound(LEVEL, LEVEL, WAITS)
    event = site.publish("has.retry", {"n": 1})
    letter = wait("it", lambda: site.broker.peek(UNDELIVERED, event))
    assert letter.body == b'{"event": "has.retry", "payload": {"n": 1}}'
    assert "once" in letter.header("leveret-error")
    wait("nothing in hand", lambda: worker.metric("leveret_in_flight") == 0)
    unbound.put_back()
    path = site.write_config()
    result = site.leveret("dlq", "replay", "-c", path, "--id", event)
    assert result.returncode == 0, result.stderr
    wait("its record", lambda: [row for row in site.ledger() if row[2] == event])
    site.assert_settled(worker)


def test_a_retry_that_no_queue_takes(handlers, services, limited, unbound):
    """The delay queue is not bound, nor is the one for what cannot be delivered."""
    site = handlers
    worker = site.worker(rabbitmq={"url": address(services.port("rabbitmq"))})
    services.permit(USER, configure=all_but(r"leveret\..*"))  # it may not bind them itself
    unbound(LEVEL, LEVEL, WAITS)
    unbound(UNDELIVERED, UNDELIVERED, "")
    began = time.monotonic()
    retried, dead = publish_some(site)
    wait_alarm(worker, "did not take a retry.*no queue took it", began)
    wait("the retries to be in hand", lambda: worker.metric("leveret_in_flight") == COUNT)
    assert_others_work(site)
    unbound.put_back()
    began = time.monotonic()
    assert_all_went_on(site, retried, dead)
    print(f"went on after {time.monotonic() - began:.1f} s")
    site.assert_settled(worker)


def test_bindings_that_are_taken_away_come_back(handlers, unbound):
    """A return is enough to have them looked at."""
    site = handlers
    worker = site.worker()
    unbound(LEVEL, LEVEL, WAITS)
    unbound(UNDELIVERED, UNDELIVERED, "")
    began = time.monotonic()
    event = site.publish("has.retry")
    wait("its record", lambda: [row for row in site.ledger() if row[2] == event], AGAIN_S)
    print(f"went on after {time.monotonic() - began:.1f} s")
    site.assert_settled(worker)
