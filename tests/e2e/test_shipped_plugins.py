"""The plugins that come with leveret, in plugins/."""
import datetime
import email.utils
import hashlib
import hmac
import json
import re
import shutil
import stat
import subprocess
import time

import pytest

from harness.waiting import wait
from harness.worker import CONFIG, ROOT, binary

SECRET = "a secret of the tests, 32 bytes."
NAME = re.compile(r"\d{4}-\d\d-\d\dT\d{6}\.\d{6}Z-[\w-]+\.jsonl(\.open)?")


def shipped(name):
    return binary().parent / "plugins" / f"{name}.so"


def add_plugin(site, name, handler=None):
    """Its queue in the configuration has to be the test's own: queues are the broker's."""
    queue = site.queue(handler or name)
    site.queues.add(queue)
    path = site.handlers / f"{handler or name}.so"
    if not path.exists():
        shutil.copy(shipped(name), path)
    return queue


# cache_invalidate

EVENTS = [
    ("ticket.created", {"id": "t-1", "title": "Printer", "ownerId": "u-7"}),
    ("ticket.updated", {"id": "t-2", "title": "Printer on fire"}),
    ("ticket.status_changed", {"id": "t-3", "oldStatus": "open", "newStatus": "closed"}),
    ("message.sent", {"id": "m-1", "ticketId": "t-4", "authorId": "u-8", "content": "hello"}),
    ("ticket.updated", {"id": 12345678901234567, "title": "numbers"}),
    ("ticket.created", {"id": "t-\u00e9\n\"", "ownerId": True}),
    ("ticket.created", {"ownerId": 1.5}),
    ("ticket.status_changed", {"id": "t-5", "oldStatus": "open"}),
    ("message.sent", {}),
]
TYPES = sorted({event_type for event_type, _ in EVENTS})
# What Lua and C say of one event.
SAID = ("level", "text", "ticket", "owner", "author", "from", "to", "count", "event", "id")


def seed_keys(redis):
    kept = ["tickets:other", "tickets:t-9", "else:t-2"]
    gone = [f"tickets:list:{number}" for number in range(300)] + \
        ["tickets:t-2", "tickets:t-3", "tickets:12345678901234567", "tickets:t-5"]
    for key in kept + gone:
        redis.set(key, "cached")
    return kept


def run_events(site, redis, **config):
    """Ledger rows, keys left, and log lines of the events, one after the other."""
    kept = seed_keys(redis)
    worker = site.worker(**config)
    for number, (event_type, payload) in enumerate(EVENTS):
        redis.set("tickets:list:again", number)
        site.publish(event_type, payload, message_id=f"e-{number}")
        worker.wait_outcomes("processed", number + 1)
    ledger = [(queue.removeprefix(site.prefix), *rest) for queue, *rest in site.ledger()]
    keys = sorted([*redis.scan_iter("tickets:*"), *redis.scan_iter("else:*")])
    lines = [{key: record[key] for key in SAID if key in record}
             for record in worker.log.records()
             if record.get("event") and re.match(r"\[FAKE\]|ticket|message|invalidated",
                                                 record["text"])]
    site.stop_workers()
    redis.delete(*redis.scan_iter("tickets:*"), *kept)
    return ledger, keys, lines


def test_the_c_twin_leaves_what_the_lua_file_leaves(make_site, redis):
    found = {}
    for kind in ("lua", "c"):
        site = make_site()
        try:
            for name in TYPES:
                text = (ROOT / f"handlers/opsdesk/{name}.lua").read_text()
                # each site has queues of its own, or the two would share their events
                queue = site.queue(name)
                site.queues.add(queue)
                if kind == "lua":
                    site.handler_file(name + ".lua", lua_with_queue(text, queue))
                else:
                    add_plugin(site, "cache_invalidate", name)
            plugins = {f"{name}": {"handler": {"queue": site.queue(name), "events": [name]}}
                       for name in TYPES}
            found[kind] = run_events(site, redis, **({"plugins": plugins} if kind == "c" else {}))
        finally:
            site.close()
    for lua, c in zip(found["lua"], found["c"]):
        assert c == lua
    ledger, keys, lines = found["c"]
    assert len(ledger) == len(EVENTS)
    # the last event touches no list
    assert keys == ["else:t-2", "tickets:list:again", "tickets:other", "tickets:t-9"]
    counts = [line["count"] for line in lines if "count" in line]
    assert counts == [301, 2, 2, 2, 1, 1, 2]
    assert sum("[FAKE]" in line["text"] for line in lines) == len(EVENTS)


def lua_with_queue(text, queue):
    """The handler's file as it is, with the option `queue`."""
    if "return {" in text:
        return text.replace("return {", f'return {{ queue = "{queue}",', 1)
    start = text.index("return function")
    return f'{text[:start]}return {{ queue = "{queue}", handle = {text[start + 7:].rstrip()} }}\n'


@pytest.fixture(scope="module")
def invalidator(shared):
    queue = add_plugin(shared, "cache_invalidate")
    return shared.worker(plugins={"cache_invalidate": {
        "patterns": {"invoice.paid": ["invoices:list:*", "invoices:{/invoice/id}"],
                     "ticket.created": ["only:{id}"], "message.sent": []},
        "handler": {"queue": queue, "events": ["#"], "retry": {"max": 0}},
    }})


def test_patterns_are_configured_by_type(shared, invalidator, redis):
    for key in ("invoices:list:1", "invoices:7", "invoices:8", "only:t-1", "tickets:list:1"):
        redis.set(key, 1)
    event_id = shared.publish("invoice.paid", {"invoice": {"id": 7}})
    assert invalidator.wait_log("invalidated", id=event_id)["count"] == 2
    event_id = shared.publish("ticket.created", {"id": "t-1"})
    assert invalidator.wait_log("invalidated", id=event_id)["count"] == 1
    assert invalidator.log.records("ticket created", id=event_id, ticket="t-1")
    keys = ("invoices:8", "tickets:list:1")
    assert redis.exists(*keys) == 2
    redis.delete(*keys)


def test_an_id_is_no_pattern(shared, invalidator, redis):
    redis.set("only:t-1", 1)
    redis.set("only:*", 1)
    event_id = shared.publish("ticket.created", {"id": "*"})
    assert invalidator.wait_log("invalidated", id=event_id)["count"] == 1
    assert redis.delete("only:t-1") == 1


@pytest.mark.parametrize("event_type, payload, reason", [
    ("invoice.paid", {"invoice": {}}, "the payload has no usable invoice/id"),
    ("invoice.paid", {"invoice": {"id": None}}, "the payload has no usable invoice/id"),
    ("invoice.paid", {"invoice": {"id": "x" * 512}}, "the payload has no usable invoice/id"),
    ("ticket.updated", {"title": "without an id"}, "the payload has no usable id"),
    ("ticket.created", ["t-1"], "the payload is no object"),
])
def test_a_payload_that_cannot_be_used_is_rejected(shared, invalidator, event_type, payload,
                                                   reason):
    shared.publish(event_type, payload)
    assert shared.dead().header("leveret-error") == reason


def test_events_without_patterns_are_dropped(shared, invalidator):
    event_id = shared.publish("nobody.knows", {})
    assert invalidator.wait_log("dropped", id=event_id)
    event_id = shared.publish("message.sent", {"ticketId": "t-1"})
    assert invalidator.wait_log("processed", id=event_id)


def assert_refused(site, name, config, text):
    add_plugin(site, name)
    result = site.leveret("check", "-c", site.write_config(plugins={name: config}))
    assert result.returncode == CONFIG, result.stdout + result.stderr
    assert text in result.stderr
    return result


@pytest.mark.parametrize("config, text", [
    ({"pattern": {}}, 'unknown key "pattern"'),
    ({"patterns": "x"}, "patterns must be a table"),
    ({"patterns": {"a": "x"}}, "patterns: of a: they must be a list"),
    ({"patterns": {"a": ["x{"]}}, "patterns: of a, one is no pattern"),
    ({"patterns": {"a": ["x}"]}}, "patterns: of a, one is no pattern"),
    ({"patterns": {"a": ["x{}"]}}, "patterns: of a, one is no pattern"),
    ({"patterns": {"a": [""]}}, "patterns: of a, one is no pattern"),
    ({"patterns": {"a": ["x"] * 17}}, "patterns: of a: more than 16"),
])
def test_wrong_patterns_are_refused(site, config, text):
    assert_refused(site, "cache_invalidate", config, text)


# archive

@pytest.fixture
def folder(tmp_path):
    return tmp_path / "archive"


def archivist(site, folder, **config):
    queue = add_plugin(site, "archive")
    handler = {"queue": queue, **config.pop("handler", {})}
    return site.worker(plugins={"archive": {"dir": str(folder), "handler": handler, **config}})


def read_lines(folder, *suffixes):
    """Every line of the archive, in the order of the files' names."""
    lines = []
    for path in sorted(folder.iterdir()):
        assert NAME.fullmatch(path.name)
        if not suffixes or path.suffix in suffixes:
            text = path.read_text()
            assert text.endswith("\n")
            lines += [json.loads(line) for line in text.splitlines()]
    return lines


def test_each_event_is_a_line_on_its_day(site, folder):
    worker = archivist(site, folder)
    before = datetime.datetime.now(datetime.timezone.utc)
    site.publish("ticket.created", {"id": "t-1", "title": "\u00e9\u2028"}, message_id="\u0001\"one\"",
                 headers={"colour": "red", "size": 3, "big": 2 ** 62, "nested": {"a": 1},
                          "truth": True, "nothing": None})
    worker.wait_outcomes("processed", 1)
    site.broker.publish(site.exchange, "pretty", b'{\n  "event": "pretty",\r\n  "payload": {\n'
                        b'    "a": "x\\ny",\n    "b": 12345678901234567890\n  }\n}',
                        message_id="two")
    worker.wait_outcomes("processed", 2)
    [path] = folder.iterdir()
    assert path.suffix == ".open"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    site.assert_settled(worker)
    [path] = folder.iterdir()
    assert path.suffix == ".jsonl"
    first, second = read_lines(folder)
    at = datetime.datetime.fromisoformat(first.pop("at").replace("Z", "+00:00"))
    assert abs((at - before).total_seconds()) < 30
    assert path.name.startswith(f"{at:%Y-%m-%dT}")
    assert first == {
        "id": "\u0001\"one\"", "type": "ticket.created", "exchange": site.exchange,
        "routing_key": "ticket.created", "queue": site.queue("archive"), "attempt": 1,
        "headers": {"colour": "red", "size": 3, "big": 2 ** 62, "truth": True, "nothing": None},
        "payload": {"id": "t-1", "title": "\u00e9\u2028"}}
    assert second["payload"] == {"a": "x\ny", "b": 12345678901234567890}
    assert "headers" not in second


def publish_many(site, count, start=0):
    for number in range(start, start + count):
        site.publish("many.events", {"number": number, "filler": "x" * 200}, confirm=False,
                     message_id=f"m-{number}")


def numbers_of(lines):
    return sorted(line["payload"]["number"] for line in lines)


def test_files_are_rotated_by_size(site, folder):
    worker = archivist(site, folder, max_bytes=8192)
    publish_many(site, 500)
    big = site.publish("big.event", {"filler": "y" * 20000})
    worker.wait_outcomes("processed", 501, timeout_s=60)
    site.assert_settled(worker)
    paths = sorted(folder.iterdir())
    assert len(paths) > 15
    lines = read_lines(folder, ".jsonl")
    assert numbers_of(line for line in lines if line["id"] != big) == list(range(500))
    for path in paths:
        assert path.stat().st_size <= 8192 or path.read_text().count("\n") == 1
    ats = [line["at"] for line in lines]
    assert ats == sorted(ats)  # names sort as events came


def test_two_workers_share_a_folder(site, folder):
    workers = [archivist(site, folder, max_bytes=65536) for _ in range(2)]
    publish_many(site, 2000)
    wait("all of them", lambda: sum(worker.outcomes("processed") for worker in workers) == 2000, 60)
    assert all(worker.outcomes("processed") > 0 for worker in workers)
    assert len([path for path in folder.iterdir() if path.suffix == ".open"]) == 2
    site.stop_workers()
    assert numbers_of(read_lines(folder, ".jsonl")) == list(range(2000))


def assert_recorded_are_kept(site, folder):
    """In whole lines, also of a file that is being written or was torn."""
    recorded, kept = {event_id for _, _, event_id in site.ledger()}, set()
    for path in folder.iterdir():
        whole, _, _ = path.read_bytes().rpartition(b"\n")
        kept.update(json.loads(line)["id"] for line in whole.splitlines())
    assert recorded and recorded <= kept


def test_an_event_that_is_recorded_is_in_the_archive(site, folder):
    """Whatever kills the worker, and at any moment."""
    for start in range(0, 2000, 500):
        worker = archivist(site, folder)
        publish_many(site, 500, start)
        wait("some", lambda: worker.outcomes("processed") > 20)
        worker.kill()
        assert_recorded_are_kept(site, folder)
    worker = archivist(site, folder)
    publish_many(site, 1, 2000)  # with the first event it closes what the others have left
    wait("the ledger", lambda: len(site.ledger()) == 2001, 60)
    site.assert_settled(worker)
    assert {line["id"] for line in read_lines(folder, ".jsonl")} == \
        {f"m-{number}" for number in range(2001)}


def test_what_a_crash_has_torn_is_cut_off(site, folder):
    folder.mkdir()
    stem = "2026-01-01T000000.00000{}Z-host.jsonl.open"
    whole = b'{"number": 1}\n{"number": 2}\n'
    left = {1: whole + b'{"number": 3, "te', 2: b'{"torn', 3: whole, 4: b"",
            5: whole + b"\0" * 5000 + b'{"behind": "a hole"}\n',
            6: whole * 9000 + b'{"torn": "behind many lines'}
    for number, data in left.items():
        (folder / stem.format(number)).write_bytes(data)
    (folder / "notes.txt").write_text("somebody else's")
    worker = archivist(site, folder)
    site.publish("an.event", {"number": 7})
    worker.wait_outcomes("processed", 1)
    found = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".jsonl"}
    expected = {1: whole, 3: whole, 5: whole, 6: whole * 9000}
    assert found == {stem.format(number)[:-5]: data for number, data in expected.items()}
    assert worker.log.records("cut off 17 bytes of a torn line")
    assert (folder / "notes.txt").exists()
    assert not (folder / stem.format(2)).exists()


def test_a_folder_that_cannot_be_written_is_a_retry(site, folder):
    """As with a full disk: the event waits, and nothing of it counts."""
    worker = archivist(site, folder, handler={"retry": {"max": 1000, "base_ms": 50, "factor": 1}})
    site.publish("an.event", {"number": 1})
    worker.wait_outcomes("processed", 1)
    moved = folder.with_name("moved")
    shutil.rmtree(folder)
    folder.write_text("in the way")
    event_id = site.publish("an.event", {"number": 2})
    record = worker.wait_log("retry", id=event_id)
    assert "archive" in record["reason"]
    assert worker.log.records("the archive cannot be written")
    folder.rename(moved)
    worker.wait_outcomes("processed", 2)
    assert worker.log.records("the archive can be written again")
    site.assert_settled(worker)
    assert numbers_of(read_lines(folder)) == [2]


def test_a_full_disk_is_a_retry_with_its_reason(site, folder, full_disk):
    worker = archivist(site, full_disk / "archive", max_bytes=16384,
                       handler={"retry": {"max": 1000, "base_ms": 100, "factor": 1}})
    publish_many(site, 3000)
    record = worker.wait_log("retry", timeout_s=60)
    assert "No space left on device" in record["reason"]
    assert_recorded_are_kept(site, full_disk / "archive")
    (full_disk / "ballast").unlink()
    worker.wait_outcomes("processed", 3000, timeout_s=60)
    site.assert_settled(worker)
    lines = read_lines(full_disk / "archive")
    assert numbers_of(lines) == list(range(3000))
    assert any(line["attempt"] > 1 for line in lines)
    assert not any("headers" in line for line in lines)  # the publisher's, not the retries'


@pytest.fixture
def full_disk(tmp_path):
    """A file system of 4 MiB, of which half of one is free."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], check=False,
                             capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("no file system can be mounted here")
    (disk / "ballast").write_bytes(b"x" * (3584 * 1024))
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.parametrize("config, text", [
    ({}, "dir must name the folder"),
    ({"dir": ""}, "dir must name the folder"),
    ({"dir": "/nowhere/at/all"}, "dir: /nowhere/at/all: cannot write to /nowhere/at"),
    ({"dir": "/dev/null"}, "dir: /dev/null is no folder"),
    ({"dir": "/tmp", "max_bytes": 1}, "max_bytes must be a whole number from 4096"),
    ({"dir": "/tmp", "max_bytes": "many"}, "max_bytes must be a whole number"),
    ({"dir": "/tmp", "directory": "/tmp"}, 'unknown key "directory"'),
])
def test_a_wrong_configuration_of_the_archive_is_refused(site, config, text):
    assert_refused(site, "archive", config, text)


def test_check_leaves_no_trace(site, folder):
    add_plugin(site, "archive")
    result = site.leveret("check", "-c", site.write_config(plugins={"archive": {"dir": str(folder)}}))
    assert result.returncode == 0, result.stderr
    assert not folder.exists()


# webhook

def verify(request, secret=SECRET):
    """As a receiver does."""
    parts = dict(part.split("=", 1) for part in request.headers["leveret-signature"].split(","))
    signed = parts["t"].encode() + b"." + request.body
    expected = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    assert hmac.compare_digest(parts["v1"], expected)
    assert abs(time.time() - int(parts["t"])) < 60


def poster(site, url, **config):
    queue = add_plugin(site, "webhook")
    handler = {"queue": queue, **config.pop("handler", {})}
    config = {"url": url, "secret": SECRET, "handler": handler, **config}
    return site.worker(plugins={"webhook": {key: value for key, value in config.items()
                                            if value is not None}})


def requests_for(web, event_id):
    return [request for request in list(web.requests)
            if request.headers.get("leveret-event-id") == event_id]


def test_an_event_is_posted_with_its_signature(site, web):
    worker = poster(site, web.url + "/hook?a=b")
    event_id = site.publish("ticket.created", {"id": "t-1", "title": "\u00e9"})
    worker.wait_outcomes("processed", 1)
    [request] = requests_for(web, event_id)
    verify(request)
    assert (request.method, request.path) == ("POST", "/hook?a=b")
    assert request.headers["content-type"] == "application/json"
    assert request.headers["leveret-event-type"] == "ticket.created"
    assert request.headers["leveret-attempt"] == "1"
    assert json.loads(request.body) == {"type": "ticket.created", "id": event_id,
                                        "payload": {"id": "t-1", "title": "\u00e9"}}
    with pytest.raises(AssertionError):
        verify(request, "another secret, which is as long")
    site.assert_settled(worker)


def test_an_id_cannot_end_its_header(site, web):
    worker = poster(site, web.url + "/odd", handler={"id": "payload.id"})
    site.publish("odd", {"id": "a b\r\nx-evil: 1%\u00e9"})
    worker.wait_outcomes("processed", 1)
    [request] = requests_for(web, "a%20b%0D%0Ax-evil:%201%25%C3%A9")
    verify(request)
    assert "x-evil" not in request.headers
    assert json.loads(request.body)["id"] == "a b\r\nx-evil: 1%\u00e9"


@pytest.mark.parametrize("status", [400, 404, 410, 422, 301])
def test_a_refusal_goes_to_the_dead_letters(site, web, status):
    worker = poster(site, f"{web.url}/status/{status}")
    event_id = site.publish("ticket.created", {})
    dead = site.dead()
    assert dead.header("leveret-error").startswith(f"the receiver answered {status}: ")
    assert len(requests_for(web, event_id)) == 1
    site.assert_settled(worker)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_receiver_in_trouble_is_asked_again(site, web, status):
    worker = poster(site, f"{web.url}/status/{status}",
                    handler={"retry": {"max": 2, "base_ms": 1, "jitter": 0}})
    event_id = site.publish("ticket.created", {})
    assert site.dead().header("leveret-error").startswith(f"the receiver answered {status}: ")
    requests = requests_for(web, event_id)
    assert [request.headers["leveret-attempt"] for request in requests] == ["1", "2", "3"]
    for request in requests:
        verify(request)
    site.assert_settled(worker)


@pytest.mark.parametrize("form", ["seconds", "date", "nonsense"])
def test_retry_after_is_honoured(site, web, form):
    value = {"seconds": "2", "nonsense": "soon",
             "date": email.utils.formatdate(int(time.time()) + 3, usegmt=True)}[form]
    worker = poster(site, f"{web.url}/retry-after/503/{value.replace(' ', '_')}",
                    handler={"retry": {"max": 1, "base_ms": 1, "jitter": 0}})
    event_id = site.publish("ticket.created", {})
    assert site.dead().properties.message_id == event_id
    delay_ms = int(re.search(r"after (\d+) ms", worker.wait_log("retrying", id=event_id)["text"])[1])
    first, second = requests_for(web, event_id)
    assert (second.at - first.at) * 1000 >= delay_ms - 50
    assert {"seconds": delay_ms == 2000, "date": 500 < delay_ms <= 3000,
            "nonsense": delay_ms == 1}[form]


def test_a_receiver_that_is_away_is_asked_again(site, closed_port):
    poster(site, f"http://127.0.0.1:{closed_port}/",
           handler={"retry": {"max": 1, "base_ms": 1}})
    site.publish("ticket.created", {})
    dead = site.dead()
    assert dead.header("leveret-error").startswith("the request failed: ")
    assert dead.header("leveret-attempt") == 2


def test_a_receiver_that_is_slow_is_asked_again(site, web):
    poster(site, f"{web.url}/slow/30000", timeout_ms=200, handler={"retry": {"max": 0}})
    site.publish("ticket.created", {})
    assert "timed out" in site.dead().header("leveret-error").lower()


def test_types_have_addresses_of_their_own(site, web):
    worker = poster(site, None, urls={"ticket.created": web.url + "/created",
                                      "ticket.updated": web.url + "/updated"})
    created = site.publish("ticket.created", {})
    updated = site.publish("ticket.updated", {})
    nowhere = site.publish("ticket.deleted", {})
    worker.wait_outcomes("processed", 2)
    worker.wait_log("dropped", id=nowhere)
    assert [request.path for request in requests_for(web, created)] == ["/created"]
    assert [request.path for request in requests_for(web, updated)] == ["/updated"]
    assert not requests_for(web, nowhere)


def test_the_secret_may_be_in_a_file(site, web, tmp_path):
    path = tmp_path / "secret"
    path.write_text(SECRET + "\n")
    worker = poster(site, web.url + "/file", secret=None, secret_file=str(path))
    event_id = site.publish("ticket.created", {})
    worker.wait_outcomes("processed", 1)
    verify(requests_for(web, event_id)[0])
    assert SECRET not in worker.log.text()


@pytest.mark.parametrize("config, text", [
    ({"secret": SECRET}, "it needs an address"),
    ({"url": "https://example.org/"}, "it needs a secret"),
    ({"url": "https://example.org/", "secret": SECRET, "secret_file": "x"}, "it needs a secret"),
    ({"url": "https://example.org/", "secret": "short"}, "secret must hold a secret of 16"),
    ({"url": "https://example.org/", "secret_file": "/nowhere"}, "secret_file: /nowhere: No such"),
    ({"url": "example.org/token", "secret": SECRET}, "url must be an address"),
    ({"urls": {"a": 1}, "secret": SECRET}, "urls.a must be an address"),
    ({"url": "http://x/", "secret": SECRET, "timeout_ms": 0}, "timeout_ms must be"),
    ({"url": "http://x/", "secret": SECRET, "uri": ""}, 'unknown key "uri"'),
])
def test_a_wrong_configuration_of_the_webhook_is_refused(site, config, text):
    result = assert_refused(site, "webhook", config, text)
    assert SECRET not in result.stderr and "token" not in result.stderr
