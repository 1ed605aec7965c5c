"""A wrong configuration or handler gives one clear line and the right exit code."""
import re
from urllib.parse import urlsplit

import pytest
from pika.exceptions import UnroutableError

from harness.waiting import wait
from harness.worker import CONFIG, OK, UNAVAILABLE, USAGE

GOOD_HANDLER = "return function(event, ctx) end"


def lines(result):
    return [line for line in (result.stdout + result.stderr).splitlines() if line.strip()]


def assert_one_line(result, code, pattern):
    assert result.returncode == code, result.stdout + result.stderr
    text = lines(result)
    assert len(text) == 1, f"not one line: {text}"
    assert re.search(pattern, text[0]), text[0]
    assert len(text[0]) < 700


CONFIGURATIONS = {
    "syntax": ("x = {", r"leveret-\d+\.lua:\d+"),
    "error": ("local t = nil; name = t.field", r"leveret-\d+\.lua:\d+"),
    "unknown-key": ("rabitmq = {}", "rabitmq"),
    "unknown-nested-key": ("retry = { maximum = 3 }", r"retry\.maximum"),
    "wrong-type": ("concurrency = 'many'", "concurrency.*number|concurrency.*integer"),
    "table-for-a-number": ("concurrency = {}", "concurrency"),
    "number-for-a-table": ("retry = 5", "retry"),
    "fraction": ("lanes = 1.5", "lanes"),
    "negative": ("retry = { max = -1 }", r"retry\.max"),
    "zero": ("concurrency = 0", "concurrency"),
    "choice": ("log = { format = 'xml' }", r"log\.format.*text.*json"),
    "duration": ("ledger = { retention = '7 fortnights' }", r"ledger\.retention"),
    "short-retention": ("ledger = { retention = '1s' }", r"ledger\.retention|retention"),
    "no-such-folder": ("handlers = { 'no/such/folder' }", "no/such/folder"),
    "rabbitmq-url": ("rabbitmq = { url = 'http://localhost' }", r"rabbitmq\.url|amqp"),
    "forbidden": ("os.execute('true')", r"leveret-\d+\.lua:\d+.*os|os.*leveret-\d+\.lua:\d+"),
}
HANDLERS = {
    "syntax": ("return function(event ctx) end", r"bad\.event\.lua:1"),
    "runtime": ("local t\nreturn t.field", r"bad\.event\.lua:2"),
    "empty": ("", r"bad\.event\.lua.*function"),
    "a-number": ("return 7", r"bad\.event\.lua.*function"),
    "no-handle": ("return { retry = { max = 1 } }", r"bad\.event\.lua.*handle"),
    "handle-is-text": ("return { handle = 'x' }", r"bad\.event\.lua.*handle"),
    "unknown-key": ("return { retries = 3, handle = function() end }", r"bad\.event\.lua.*retries"),
    "unknown-nested-key": ("return { retry = { maximum = 3 }, handle = function() end }",
                           r"bad\.event\.lua.*retry\.maximum"),
    "wrong-type": ("return { concurrency = 'x', handle = function() end }",
                   r"bad\.event\.lua.*concurrency"),
    "queue-type": ("return { queue_type = 'stream', handle = function() end }",
                   r"bad\.event\.lua.*queue_type.*quorum.*classic"),
    "envelope": ("return { envelope = 'xml', handle = function() end }",
                 r"bad\.event\.lua.*envelope"),
    "long-timeout": ("return { timeout_ms = 3600000 * 5, handle = function() end }",
                     r"bad\.event\.lua.*timeout_ms"),
    "requires": ("require('os')", r"bad\.event\.lua:1.*require"),
    "executes": ("os.execute('true')", r"bad\.event\.lua:1.*execute"),
    "loads": ("return load('return 1')", r"bad\.event\.lua:1.*load"),
    "bytecode": ("\033Lua" + "T" * 60, r"bad\.event\.lua.*(binary|text)"),
    "endless": ("while true do end", r"bad\.event\.lua.*"),
}


@pytest.fixture
def bare(make_site):
    """A site that never starts a worker."""
    mine = make_site()
    yield mine
    mine.close()


def with_text(site, text):
    """The configuration that tests use, without the keys that the text sets itself."""
    keys = re.findall(r"^(\w+) =", text)
    path = site.write_config(**{"log": {"level": "error"}, **{key: None for key in keys}})
    path.write_text(path.read_text() + text + "\n")
    return path


@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.parametrize("command", ["check", "run"])
def test_a_wrong_configuration(bare, command, name):
    text, pattern = CONFIGURATIONS[name]
    bare.handler_file("good.event.lua", GOOD_HANDLER)
    result = bare.leveret(command, "-c", with_text(bare, text), timeout_s=20)
    assert_one_line(result, CONFIG, pattern)


@pytest.mark.parametrize("name", HANDLERS)
def test_a_wrong_handler(bare, name):
    text, pattern = HANDLERS[name]
    bare.handler_file("bad.event.lua", text)
    result = bare.leveret("check", "-c", bare.write_config(), timeout_s=20)
    assert_one_line(result, CONFIG, pattern)


def test_run_refuses_a_wrong_handler_too(bare):
    bare.handler_file("bad.event.lua", "return 7")
    result = bare.leveret("run", "-c", bare.write_config(), timeout_s=20)
    assert_one_line(result, CONFIG, r"bad\.event\.lua")


def test_a_suggestion_for_an_unknown_key(bare):
    bare.handler_file("bad.event.lua", "return { concurency = 3, handle = function() end }")
    result = bare.leveret("check", "-c", bare.write_config())
    assert_one_line(result, CONFIG, r"concurency.*concurrency")


def test_a_missing_configuration_file(bare):
    result = bare.leveret("run", "-c", "no-such-file.lua")
    assert_one_line(result, CONFIG, r"no-such-file\.lua")


def test_two_handlers_for_one_type_of_one_queue(bare):
    bare.handler("first", "", events=["twice.handled"], queue="one")
    bare.handler("second", "", events=["twice.handled"], queue="one")
    result = bare.leveret("check", "-c", bare.write_config())
    assert_one_line(result, CONFIG, r"first.*second|second.*first")
    assert "twice.handled" in result.stdout + result.stderr


def test_handlers_that_disagree_about_their_queue(bare):
    bare.handler("first", "", queue="one", message_ttl_ms=1000)
    bare.handler("second", "", queue="one", message_ttl_ms=2000)
    result = bare.leveret("check", "-c", bare.write_config())
    assert_one_line(result, CONFIG, r"message_ttl_ms")


@pytest.mark.parametrize("name,value", [
    ("LEVERET_RABBITMQ_PREFETCH", "many"), ("LEVERET_CONCURRENCY", "-3"),
    ("LEVERET_LOG_FORMAT", "xml"), ("LEVERET_NO_SUCH_KEY", "1"),
])
def test_a_wrong_variable(bare, name, value):
    bare.handler_file("good.event.lua", GOOD_HANDLER)
    result = bare.leveret("check", "-c", bare.write_config(), env={name: value})
    assert_one_line(result, CONFIG, name + "|" + name[8:].lower().replace("_", r"[._]", 1))


@pytest.mark.parametrize("arguments", [
    ["run", "--no-such-flag"], ["no-such-command"], ["run", "-c"], ["check", "stray", "words"],
    ["--no-such-flag"], [],
], ids=" ".join)
def test_wrong_usage(bare, arguments):
    result = bare.leveret(*arguments)
    assert result.returncode == USAGE
    assert lines(result)


# servers that refuse


def with_password(url, password):
    parts = urlsplit(url)
    return parts._replace(
        netloc=f"{parts.username}:{password}@{parts.hostname}:{parts.port}").geturl()


@pytest.mark.parametrize("key", ["rabbitmq", "postgres", "redis"])
def test_bad_credentials(bare, services, key):
    url = {"rabbitmq": services.rabbitmq_url, "postgres": bare.database_url,
           "redis": services.redis_url}[key]
    bare.handler("good.event", "")
    path = bare.write_config(log={"level": "error"},
                             **{key: {"url": with_password(url, "wr0ng-pass")}})
    result = bare.leveret("run", "-c", path, timeout_s=30)
    assert_one_line(result, CONFIG, rf"{key}\.url")
    assert "wr0ng-pass" not in result.stdout + result.stderr


@pytest.mark.parametrize("key,url", [
    ("rabbitmq", "amqp://guest:guest@127.0.0.1:{port}/no-such-vhost"),
    ("postgres", "no_such_database"),
])
def test_what_is_not_there_on_a_server(bare, services, key, url):
    bare.handler("good.event", "")
    url = url.format(port=urlsplit(services.rabbitmq_url).port)
    if key == "postgres":
        url = services.database(url)
    path = bare.write_config(**{key: {"url": url}}, log={"level": "error"})
    result = bare.leveret("run", "-c", path, timeout_s=30)
    assert_one_line(result, CONFIG, "no.such")


def test_a_database_that_was_not_migrated(bare, services):
    bare.handler("good.event", "")
    path = bare.write_config(postgres={"url": services.database("template1")},
                             log={"level": "error"})
    result = bare.leveret("run", "-c", path, timeout_s=30)
    assert_one_line(result, CONFIG, "leveret migrate")


def test_migrate_needs_a_server(bare, closed_port):
    path = bare.write_config(
        postgres={"url": f"postgresql://nobody:s3cret@127.0.0.1:{closed_port}/none"})
    result = bare.leveret("migrate", "-c", path)
    assert_one_line(result, UNAVAILABLE, "127.0.0.1")
    assert "s3cret" not in result.stderr + result.stdout


@pytest.mark.parametrize("before,after,words", [
    ({"queue_type": "classic"}, {"queue_type": "quorum"},
     ["x-queue-type", "classic", "quorum", "queue_type"]),
    ({"message_ttl_ms": 1000}, {"message_ttl_ms": 2000},
     ["x-message-ttl", "1000", "2000", "message_ttl_ms"]),
    ({"message_ttl_ms": 1000}, {}, ["x-message-ttl", "1000", "none", "message_ttl_ms"]),
    ({"dead_letter": "e2e-other-dlq"}, {}, ["x-dead-letter-routing-key", "e2e-other-dlq",
                                            "{dead}", "dead_letter"]),
], ids=["type", "ttl", "no-ttl", "dead-letter"])
def test_a_queue_with_other_arguments(site, before, after, words):
    site.handler("good.event", "", **before)
    site.worker().stop()
    site.handler("good.event", "", **after)
    path = site.write_config(log={"level": "error"})
    result = site.leveret("run", "-c", path, timeout_s=30)
    assert_one_line(result, CONFIG, re.escape(site.queue("good.event")))
    line = lines(result)[0]
    missing = [word for word in words if word.format(dead=site.dead_letter) not in line]
    assert not missing, f"{missing} not in {line}"
    site.broker.delete("e2e-other-dlq")


def test_nothing_is_handled_when_one_queue_is_wrong(site):
    site.handler("first.event", "mark(event, ctx)")
    site.handler("second.event", "")
    site.worker().stop()
    site.publish("first.event")
    site.handler("second.event", "", message_ttl_ms=1000)
    path = site.write_config(log={"level": "error"})
    assert_one_line(site.leveret("run", "-c", path, timeout_s=30), CONFIG, "x-message-ttl")
    assert not site.marks()
    assert site.broker.depth(site.queue("first.event")) == 1


def test_an_exchange_of_another_type(bare):
    bare.broker.channel("ask").exchange_declare(bare.exchange, "direct", durable=True)
    bare.handler("good.event", "")
    result = bare.leveret("run", "-c", bare.write_config(log={"level": "error"}), timeout_s=30)
    assert_one_line(result, CONFIG, re.escape(bare.exchange))


def test_a_classic_queue_when_asked_for(site):
    site.handler("good.event", "mark(event, ctx) error('x')", queue_type="classic",
                 retry={"max": 1, "base_ms": 250})
    worker = site.worker()
    event = site.publish("good.event")
    assert site.dead().properties.message_id == event
    assert len(site.marks()) == 2
    site.broker.declare(site.queue("good.event"), **{
        "x-queue-type": "classic", "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": site.dead_letter})
    site.assert_settled(worker)


def test_a_queue_deleted_while_consuming_comes_back(site):
    site.handler("good.event", "mark(event, ctx)")
    site.handler("other.event", "mark(event, ctx)")
    worker = site.worker()
    queue = site.queue("good.event")
    site.broker.delete(queue)
    wait("the queue and its consumer", lambda: site.broker.consumers(queue))
    for name in ("good.event", "other.event"):
        wait("its binding", lambda event=name: try_publish(site, event))
        site.wait_marks(1, type=name)
    assert worker.outcomes("failed") == 0
    site.assert_settled(worker)


def try_publish(site, event_type):
    try:
        return site.publish(event_type)
    except UnroutableError:
        return None


def test_check_connects_to_nothing(bare, closed_port):
    bare.handler("good.event", "")
    at = f"s3cret@127.0.0.1:{closed_port}"
    path = bare.write_config(rabbitmq={"url": f"amqp://nobody:{at}/"},
                             postgres={"url": f"postgresql://nobody:{at}/none"},
                             redis={"url": f"redis://:{at}/0"})
    result = bare.leveret("check", "-c", path)
    assert result.returncode == OK
    assert "s3cret" not in result.stdout + result.stderr
