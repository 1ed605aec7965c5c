"""Events that handlers and people publish: confirmed, with their wishes, and with delays."""
import concurrent.futures
import json
import os
import signal
import subprocess
import time

import pytest

from harness.waiting import wait
from harness.worker import (CONFIG, INTERRUPTED, NO_INPUT, OK, UNAVAILABLE, USAGE, binary,
                            environment)

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


@pytest.mark.alone
def test_a_delay_of_3_s_is_kept(shared, worker):
    event_id = ask(shared, "order.made", {"n": 4}, delay_ms=3000)
    asked = shared.marks(note=event_id)[0]
    mark = made(shared, event_id)
    waited_s = (mark["at_us"] - asked["at_us"]) / SECOND_US
    assert 2.9 <= waited_s <= 3.5
    assert (mark["note"]["exchange"], mark["note"]["key"]) == (shared.exchange, "order.made")
    assert mark["note"]["headers"]["leveret-delayed"] == 1


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
    *steps, destination = message.routing_key.split(".")
    assert [step == "w" for step in steps] == [bool(ticks >> i & 1) for i in range(level + 1)]
    assert len(destination) == 16
    assert message.header("leveret-to-exchange") == shared.exchange
    assert json.loads(message.body) == {"event": "order.made", "payload": {"n": 5}}
    shared.broker.drain(f"leveret.delay.{level:02}")  # or it would end as a dead letter of others


# the command

@pytest.fixture
def work(shared, worker):
    """A queue that the tests themselves read."""
    name = shared.queue("read")
    shared.queues.add(name)
    shared.broker.declare(name, bind=(shared.exchange, "read.me"), **{"x-queue-type": "quorum"})
    yield name
    shared.broker.drain(name)


@pytest.fixture(scope="module")
def config(shared):
    return shared.write_config()


def run(shared, config, *arguments, code=OK, **options):
    result = shared.leveret("publish", *arguments, "-c", config, **options)
    assert result.returncode == code, result.stdout + result.stderr
    return result


def test_the_command_publishes_and_prints_the_id(shared, config, work):
    result = run(shared, config, "read.me", '{"n": 1}', "--header", "x-own=a=b", "--priority", 3,
                 "--max-attempts=4", "--ttl", "60s")
    message = shared.broker.get(work)
    assert message.properties.message_id == result.stdout.strip()
    assert json.loads(message.body) == {"event": "read.me", "payload": {"n": 1}}
    properties = message.properties
    assert (properties.priority, properties.expiration, properties.delivery_mode) == (3, "60000", 2)
    assert (properties.type, properties.content_type) == ("read.me", "application/json")
    assert message.header("x-own") == b"a=b" or message.header("x-own") == "a=b"
    assert message.header("leveret-max-attempts") == 4


def test_the_body_comes_from_a_file_or_standard_input(shared, config, work, tmp_path):
    (tmp_path / "body.json").write_text('{"from": "file"}\n')
    run(shared, config, "read.me", f"@{tmp_path}/body.json", "--id", "f1")
    run(shared, config, "read.me", "-", "--id", "s1", stdin='{"from": "stdin"}')
    bodies = [json.loads(message.body)["payload"]["from"] for message in shared.broker.drain(work)]
    assert bodies == ["file", "stdin"]


def test_a_delayed_publish_of_the_command_keeps_its_exchange(shared, config, worker):
    event_id = run(shared, config, "order.made", '{"n": 7}', "--delay", "1s").stdout.strip()
    assert made(shared, event_id)["note"]["exchange"] == shared.exchange


def test_what_comes_out_of_a_delay_is_the_event_and_nothing_of_its_way(shared, config, work):
    event_id = run(shared, config, "read.me", '{"n": 8}', "--delay", "1s", "--ttl", "60s",
                   "--header", "x-own=a").stdout.strip()
    message = wait("the message", lambda: shared.broker.get(work))
    assert message.properties.message_id == event_id
    names = set(message.properties.headers) - {"x-delivery-count"}  # a quorum queue's own
    assert names == {"x-own", "leveret-delayed"}
    assert message.properties.expiration == "60000"


def test_events_of_standard_input_go_out_one_a_line(shared, config, work):
    lines = "".join(f'{{"event": "read.me", "payload": {{"n": {n}}}}}\n' for n in range(2000))
    lines += '{"type": "read.me", "item": {"id": 1}, "timestamp": "2026-01-02T03:04:05Z"}\n\n'
    result = run(shared, config, "-", stdin=lines)
    assert "2001 confirmed, 0 failed" in result.stderr
    assert "\r" not in result.stderr  # it is no terminal
    messages = shared.broker.drain(work)
    assert [json.loads(message.body)["payload"]["n"] for message in messages[:-1]] == \
        list(range(2000))
    assert len({message.properties.message_id for message in messages}) == 2001
    assert json.loads(messages[-1].body)["item"] == {"id": 1}


def test_the_priority_of_a_line_is_the_message_s(shared, config, work):
    line = '{"type": "read.me", "payload": {}, "priority": %d}\n'
    run(shared, config, "-", stdin=line % 7 + line % 1000 + '{"type": "read.me", "payload": {}}\n')
    run(shared, config, "-", "--priority", 3, stdin=line % 7)
    assert [message.properties.priority for message in shared.broker.drain(work)] == \
        [7, 255, None, 3]


def test_wrong_lines_are_named_and_hold_up_nothing(shared, config, work):
    result = run(shared, config, "-", code=USAGE, stdin=(
        '{"event": "read.me", "payload": {}}\nnot json\n{"no": "type"}\n'
        '{"event": "read.me", "payload": {}}\n'))
    assert "line 2:" in result.stderr and "line 3:" in result.stderr
    assert "2 confirmed, 2 failed" in result.stderr
    assert len(shared.broker.drain(work)) == 2


def test_a_line_over_the_limit_takes_no_memory_and_holds_up_nothing(shared, config, work):
    result = run(shared, config, "-", code=USAGE, stdin=(
        '{"event": "read.me", "payload": {"n": "' + "x" * 50_000_000 + '"}}\n'
        '{"event": "read.me", "payload": {}}\r\n{"event": "read.me", "payload": {}}'))
    assert "line 1: it is longer than max_body_bytes" in result.stderr
    assert "2 confirmed, 1 failed" in result.stderr
    assert len(shared.broker.drain(work)) == 2


def test_an_input_that_cannot_be_read_is_an_error(shared, config, tmp_path):
    folder = os.open(tmp_path, os.O_RDONLY)
    result = subprocess.run([binary(), "publish", "-", "-c", config], stdin=folder, text=True,
                            stderr=subprocess.PIPE, env=environment(shared.directory), timeout=60,
                            check=False)
    os.close(folder)
    assert result.returncode == NO_INPUT
    assert "standard input cannot be read: Is a directory\n" in result.stderr


def test_interrupted_it_answers_what_is_out_and_tells_the_last_line(shared, config, work):
    with subprocess.Popen([binary(), "publish", "-", "-c", config], stdin=subprocess.PIPE,
                          stderr=subprocess.PIPE, env=environment(shared.directory),
                          text=True) as process:
        process.stdin.write('{"event": "read.me", "payload": {}}\n' * 3)
        process.stdin.flush()
        wait("the three", lambda: shared.broker.depth(work) == 3)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == INTERRUPTED
        said = process.stderr.read()
    assert said == "3 confirmed, 0 failed; interrupted: what comes after line 3 was not read\n"
    assert len(shared.broker.drain(work)) == 3


@pytest.mark.parametrize("arguments, code, why", [
    (("e", "--exchange", "no.such.exchange"), CONFIG, "no exchange 'no.such.exchange'"),
    (("e", "--queue", "no.such.queue"), CONFIG, "no.such.queue"),
    (("nobody.takes.it",), CONFIG, 'with the key "nobody.takes.it"'),
    (("e", "[1]"), USAGE, "not a JSON object"),
    (("e", '{"n":'), USAGE, "not JSON"),
    (("e", "@/no/such/file"), USAGE, "/no/such/file"),
    (("e", "--priority", "-1"), USAGE, "0 to 255"),
    (("e", "--priority", "256"), USAGE, "0 to 255"),
    (("e", "--max-attempts", "0"), USAGE, "from 1"),
    (("e", "--max-attempts", "-1"), USAGE, "from 1"),
    (("e", "--max-attempts", str(10**9)), USAGE, "limits.max_attempts is 100"),
    (("e", "--delay", "49d"), USAGE, "limits.max_delay"),
    (("e", "--delay", "-1s"), USAGE, "a time such as"),
    (("e", "--header", "none"), USAGE, "NAME=VALUE"),
    (("e", "--header", "leveret-attempt=3"), USAGE, "leveret's own"),
    (("e", "--queue", "q", "--exchange", "x"), USAGE, "exclude each other"),
    (("-", "{}"), USAGE, "no BODY"),
    ((), USAGE, "wants an event"),
    (("e", "--unknown"), USAGE, "--unknown"),
])
def test_what_the_command_cannot_publish_is_an_error(shared, config, arguments, code, why):
    result = run(shared, config, *arguments, code=code)
    assert why in result.stderr


def test_a_payload_over_the_limit_is_an_error(shared, config, tmp_path):
    (tmp_path / "big.json").write_text('{"n": "' + "x" * 1048576 + '"}')
    assert "max_body_bytes" in run(shared, config, "e", f"@{tmp_path}/big.json",
                                   code=USAGE).stderr


def test_without_a_broker_the_command_fails_fast_or_at_the_deadline(shared, config):
    away = {"RABBITMQ_URL": "amqp://localhost:1"}
    began = time.monotonic()
    result = run(shared, config, "e", "--wait", "0", code=UNAVAILABLE, env=away)
    assert time.monotonic() - began < 10
    assert "cannot reach RabbitMQ at localhost:1" in result.stderr
    began = time.monotonic()
    run(shared, config, "e", "--wait", "2s", code=UNAVAILABLE, env=away)
    assert 2 <= time.monotonic() - began < 10


def test_the_command_waits_for_a_broker_that_comes_back(site):
    site.handler("order.made", "mark(event, ctx)")
    worker = site.worker()
    config = site.write_config()
    site.services.wait_for_directory(site.queue("order.made"))
    site.services.kill("rabbitmq")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        running = pool.submit(site.leveret, "publish", "order.made", "--wait", "60s", "-c", config)
        time.sleep(1)
        assert not running.done()
        site.services.start("rabbitmq")
        result = running.result()
    assert result.returncode == OK, result.stderr
    site.wait_marks(1, id=result.stdout.strip())
    site.assert_settled(worker)


def blocked_for(site, seconds):
    """A command waits while the broker takes no messages, the outbox keeps its row, and a handler
    goes on acking what it has; then all of it goes out, once."""
    site.handler("order.made", "mark(event, ctx)")
    worker = site.worker()
    config = site.write_config()
    for number in range(3):
        site.publish("order.made", message_id=f"before-{number}")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        with site.services.alarm():
            began = time.monotonic()
            blocked = site.leveret("publish", "order.made", "--wait", "3s", "-c", config)
            assert blocked.returncode == UNAVAILABLE
            assert "takes no messages now" in blocked.stderr or \
                "has not confirmed it in time" in blocked.stderr
            running = pool.submit(site.leveret, "publish", "order.made", "--wait", "120s", "-c",
                                  config, timeout_s=150)
            relayed = site.rows("select leveret_publish('order.made', '{}')")[0][0]
            site.wait_marks(3)
            time.sleep(max(0, began + seconds - time.monotonic()))
            assert not running.done()
            assert site.rows("select count(*) from outbox where sent_at is null") == [(1,)]
            assert worker.running()
        result = running.result()
    assert result.returncode == OK, result.stderr
    site.wait_marks(1, id=result.stdout.strip())
    site.wait_marks(1, id=relayed)
    worker.stop()
    ids = [mark["id"] for mark in site.marks()]
    assert len(ids) == len(set(ids))


def test_a_broker_that_blocks_publishers_is_named_and_waited_for(site):
    blocked_for(site, 5)


@pytest.mark.full
def test_a_broker_that_blocks_publishers_for_a_minute_is_waited_for(site):
    blocked_for(site, 60)
