"""examples/crud-server and handlers/items: items over HTTP, and a line for each change."""
import json
import re
import socket
import threading

import pytest

from harness.crud import CrudServer
from harness.site import numbers
from harness.waiting import wait
from harness.worker import ROOT, UNAVAILABLE, USAGE

QUEUE = "item_events"
MODES = ("memory", "postgres")
LINE = re.compile(r"^\[(CREATED|UPDATED|DELETED)\] Item ID: (\d+), Name: (.*)"
                  r" at (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)$")


@pytest.fixture
def queue(broker):
    """The queue as the seed's server declares it."""
    broker.delete(QUEUE)
    broker.declare(QUEUE)
    yield QUEUE
    broker.delete(QUEUE)


@pytest.fixture
def make_server(site):
    servers = []

    def make(mode):
        server = CrudServer(site.directory / f"server-{next(numbers)}", site.services.rabbitmq_url,
                            site.database_url if mode == "postgres" else None)
        servers.append(server)
        return server.start()

    yield make
    for server in servers:
        server.stop()


@pytest.fixture(params=MODES)
def server(request, queue, make_server):
    return make_server(request.param)


def items_worker(site, **changes):
    site.queues.add(QUEUE)
    return site.worker(handlers=[str(ROOT / "handlers/items")], **changes)


def said(*workers):
    """(word, id, name) of the lines that handlers printed."""
    lines = [record["text"] for worker in workers for record in worker.log.records(r"Item ID")]
    matches = [LINE.match(line) for line in lines]
    assert all(matches), lines
    return [(match[1], int(match[2]), match[3]) for match in matches]


def said_once(workers, expected):
    wait(f"{len(expected)} lines", lambda: len(said(*workers)) >= len(expected), 60)
    assert sorted(said(*workers)) == sorted(expected)


def problem(answer, status, text):
    assert answer.status == status, answer
    assert answer.json["status"] == status
    assert re.search(text, answer.json["detail"]), answer.json["detail"]


# the life of an item, and the lines

def test_an_item_from_its_creation_to_its_end(site, server):
    worker = items_worker(site)
    answer = server.request("POST", "/items", {"name": "Sample Item", "price": 12.5})
    assert answer.status == 201
    item = answer.json
    assert item == {"id": item["id"], "name": "Sample Item", "description": "", "price": 12.5}
    address = answer.headers["Location"]
    assert address == f"/items/{item['id']}"
    assert server.request("GET", address).json == item
    assert server.request("GET", "/items").json == [item]
    item["name"] = "Updated Item"
    item["description"] = "two\nlines \u00e9 \U0001F407"
    item["price"] = None
    answer = server.request("PUT", address, item)  # as it was read, with its id
    assert answer.status == 200 and answer.json == item
    assert server.request("GET", address).json == item
    assert server.request("DELETE", address).status == 204
    problem(server.request("DELETE", address), 404, "no item")
    problem(server.request("GET", address), 404, "no item")
    problem(server.request("PUT", address, {"name": "x"}), 404, "no item")
    assert server.request("GET", "/items").json == []
    said_once([worker], [("CREATED", item["id"], "Sample Item"),
                         ("UPDATED", item["id"], "Updated Item"),
                         ("DELETED", item["id"], "Updated Item")])
    worker.wait_outcomes("processed", 3)
    site.assert_settled(worker)


def test_the_events_as_they_are_in_the_queue(site, server, queue, broker):
    worker = items_worker(site)  # relays the outbox; then nobody consumes
    worker.stop()
    if "DATABASE_URL" in server.env:
        site.queues.discard(QUEUE)
        site.handler("other.event", "")
        site.worker()
    item = server.create("One", price=0.1)
    wait("the event", lambda: broker.depth(queue) == 1)
    message = broker.get(queue)
    event = json.loads(message.body)
    assert list(sorted(event)) == ["item", "timestamp", "type"]
    assert event["type"] == "item.created" == message.properties.type
    assert event["item"] == item
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", event["timestamp"])
    assert message.properties.delivery_mode == 2
    assert len(message.properties.message_id) == 36


def test_the_queue_of_the_seeds_server_in_either_order(site, queue, broker):
    """Declared by it or by the worker: the other's declaration is the same."""
    worker = items_worker(site)
    broker.declare(queue)
    event = {"type": "item.created", "item": {"id": 7, "name": "from Go"},
             "timestamp": "2026-02-18T18:23:45.123456789+01:00"}
    broker.publish("", queue, json.dumps(event))
    wait("its line", lambda: worker.log.records(
        text="[CREATED] Item ID: 7, Name: from Go at 2026-02-18 18:23:45"))
    broker.publish("", queue, json.dumps({"type": "item.created", "item": None}))
    assert "no item" in site.dead().header("leveret-error")  # without the queue's own help
    broker.publish("", queue, json.dumps({"type": "item.painted", "item": {}}))
    assert "item.painted" in site.dead().header("leveret-error")
    site.assert_settled(worker)
    broker.delete(queue)
    worker = items_worker(site)
    broker.declare(queue)
    site.assert_settled(worker)


def test_a_queue_that_has_dead_lettering_is_taken_too(site, queue, broker):
    broker.delete(queue)
    broker.declare(queue, **{"x-dead-letter-exchange": "",
                             "x-dead-letter-routing-key": site.dead_letter})
    site.assert_settled(items_worker(site))


def test_workers_share_the_queue(site, server):
    workers = [items_worker(site, rabbitmq={"prefetch": 1}, concurrency=1) for _ in range(2)]
    wait("both consumers", lambda: site.broker.consumers(QUEUE) == 2)
    expected = [("CREATED", server.create(f"item {number}")["id"], f"item {number}")
                for number in range(200)]
    said_once(workers, expected)
    assert all(said(worker) for worker in workers)
    site.assert_settled(workers[0])


# what is wrong with a request

LONG = "x" * 201
BODIES = {
    "empty": ("", "not JSON"),
    "not-json": ("hello", "not JSON"),
    "cut": ('{"name": "a"', "not JSON"),
    "trailing": ('{"name": "a"} {}', "not JSON"),
    "comma": ('{"name": "a",}', "not JSON"),
    "array": ("[]", "not a JSON object"),
    "text": ('"name"', "not a JSON object"),
    "null": ("null", "not a JSON object"),
    "deep": ('{"name":' + "[" * 5000, "not JSON"),
    "no-name": ('{"price": 1}', "name is missing"),
    "empty-name": ('{"name": ""}', "name is empty"),
    "name-null": ('{"name": null}', "name must be a text"),
    "name-number": ('{"name": 7}', "name must be a text"),
    "long-name": (json.dumps({"name": LONG}), "longer than 200 characters"),
    "long-description": (json.dumps({"name": "a", "description": "x" * 2001}),
                         "description is longer than 2000"),
    "control": ('{"name": "a\\u001b[31m"}', "control character"),
    "line-break": ('{"name": "a\\nb"}', "control character"),
    "nul": ('{"name": "a\\u0000b"}', "NUL"),
    "raw-nul": ('{"name": "a"}\0', "NUL"),
    "utf-8": (b'{"name": "\xff\xfe"}', "UTF-8"),
    "overlong": (b'{"name": "\xc0\xaf"}', "UTF-8"),
    "surrogate": ('{"name": "\\ud800"}', "not JSON"),
    "price-text": ('{"name": "a", "price": "1"}', "price must be a number"),
    "negative-price": ('{"name": "a", "price": -0.01}', "price must be from 0"),
    "huge-price": ('{"name": "a", "price": 1e300}', "price must be from 0"),
    "infinite-price": ('{"name": "a", "price": 1e999}', "price must be from 0"),
    "price-too-fine": ('{"name": "a", "price": 1.005}', "two decimals"),
    "unknown": ('{"name": "a", "colour": "red"}', "no colour"),
    "unknown-control": ('{"name": "a", "\\u001b": 1}', "no such member"),
    "twice": ('{"name": "a", "name": "b"}', "more than once"),
    "case": ('{"Name": "a"}', "no Name"),
    "id": ('{"id": 9, "name": "a"}', "id"),
}


@pytest.fixture(scope="module", params=MODES)
def steady(request, shared, broker):
    """One server for requests that change nothing."""
    broker.declare(QUEUE)
    server = CrudServer(shared.directory / request.param, shared.services.rabbitmq_url,
                        shared.database_url if request.param == "postgres" else None).start()
    server.item = server.create("untouched")
    yield server
    assert server.request("GET", "/items").json == [server.item]
    server.stop()
    broker.delete(QUEUE)


@pytest.mark.parametrize("name", BODIES)
def test_a_wrong_body(steady, name):
    body, text = BODIES[name]
    problem(steady.request("POST", "/items", body), 400, text)
    problem(steady.request("PUT", f"/items/{steady.item['id']}", body), 400, text)


@pytest.mark.parametrize("price,shown", [
    (0, "0.00"), (0.1, "0.10"), (19.99, "19.99"), (1e2, "100.00"),
    (9999999999.99, "9999999999.99"), (4503599627.37, "4503599627.37"), (None, "null"),
])
def test_prices_are_exact(server, price, shown):
    item = server.create("priced", price=price)
    assert f'"price":{shown}}}' in server.request("GET", f"/items/{item['id']}").text


def test_the_longest_item(server):
    item = server.create("\U0001F407" * 200, description="\U0001F407" * 2000)
    assert server.request("GET", f"/items/{item['id']}").json == item


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [65536, 65537, 5000000])
def test_a_large_body(steady, size, chunked):
    """The connection may be closed before all of it is sent: so this is sent by hand."""
    body = b'{"name": "' + b"x" * (size - 12) + b'"}'
    with socket.create_connection(("127.0.0.1", steady.port), 30) as client:
        client.sendall(b"POST /items HTTP/1.1\r\nHost: here\r\n")
        try:
            if chunked:
                client.sendall(b"Transfer-Encoding: chunked\r\n\r\n")
                for at in range(0, size, 16384):
                    piece = body[at:at + 16384]
                    client.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
                client.sendall(b"0\r\n\r\n")
            else:
                client.sendall(b"Content-Length: %d\r\n\r\n" % size + body)
        except OSError:
            assert size > 65536
        answer = client.recv(65536)
    assert answer.startswith(b"HTTP/1.1 %d " % (400 if size == 65536 else 413)), answer


@pytest.mark.parametrize("address", ["/", "/item", "/items/", "/items/1/2", "/itemsx", "/healthz/"])
def test_nothing_at_an_address(steady, address):
    problem(steady.request("GET", address), 404, "nothing at this address")


@pytest.mark.parametrize("id_text", ["0", "-1", "x", "1.0", "01x", "9223372036854775808", "%00"])
def test_a_wrong_id(steady, id_text):
    for method in ("GET", "PUT", "DELETE"):
        answer = steady.request(method, f"/items/{id_text}", {"name": "a"})
        assert answer.status in (400, 404), answer
        assert steady.request("GET", "/items/9223372036854775807").status == 404


@pytest.mark.parametrize("method", ["PATCH", "POST", "PUT", "DELETE", "OPTIONS", "BREW"])
def test_a_method_that_is_not_allowed(steady, method):
    for address in ("/items", "/items/1", "/healthz"):
        known = steady.api.methods(steady.api.template(address))
        if method in known:
            continue
        answer = steady.request(method, address)
        problem(answer, 405, "Allow")
        assert set(answer.headers["Allow"].split(", ")) == known | {"HEAD"}


def test_a_page_after_the_other(server):
    items = [server.create(f"item {number}") for number in range(5)]
    address, pages = "/items?limit=2", []
    while address:
        answer = server.request("GET", address)
        pages.append(answer.json)
        link = re.fullmatch(r'<(.*)>; rel="next"', answer.headers.get("Link", ""))
        address = link and link[1]
    assert pages == [items[0:2], items[2:4], items[4:5]]
    for query in ("limit=0", "limit=1001", "limit=x", "limit=", "after=-1", "after=x"):
        problem(server.request("GET", "/items?" + query), 400, "must be")


def test_head_is_get_without_a_body(server):
    server.create("one")
    for address in ("/items", "/items/1", "/healthz"):
        answer = server.request("HEAD", address)
        assert answer.status == 200 and not answer.text
        assert int(answer.headers["Content-Length"]) > 0


def test_memory_is_bounded(queue, make_server):
    server = make_server("memory")
    for number in range(10000):
        server.create(str(number))
    problem(server.request("POST", "/items", {"name": "one more"}), 507, "no room")
    assert server.request("DELETE", "/items/5000").status == 204
    assert server.create("again")["id"] == 10001


# RabbitMQ, PostgreSQL and the server come and go

def test_rabbitmq_stopped_meanwhile(site, server):
    worker = items_worker(site)
    first = server.create("before")["id"]
    said_once([worker], [("CREATED", first, "before")])
    site.services.stop("rabbitmq")
    try:
        expected = [("CREATED", first, "before")]
        for number in range(100):
            expected.append(("CREATED", server.create(f"n {number}")["id"], f"n {number}"))
        assert server.request("DELETE", f"/items/{first}").status == 204
        expected.append(("DELETED", first, "before"))
        assert server.request("GET", "/healthz").status == 200
    finally:
        site.services.start("rabbitmq")
    said_once([worker], expected)
    wait("nothing to wait", lambda: not server.request("GET", "/healthz").json.get("waiting"))


def test_a_server_that_starts_without_rabbitmq(site, queue, make_server):
    site.services.stop("rabbitmq")
    try:
        server = make_server("memory")
        item = server.create("early")["id"]
        wait("a line in the log", lambda: "events wait: " in server.log.text())
        assert server.request("GET", "/healthz").json["waiting"] == 1
    finally:
        site.services.start("rabbitmq")
    said_once([items_worker(site)], [("CREATED", item, "early")])
    wait("a line in the log", lambda: "0 were lost" in server.log.text())


def test_a_queue_that_is_not_there_yet(site, broker, make_server):
    broker.delete(QUEUE)
    server = make_server("memory")
    ids = [server.create("early")["id"] for _ in range(300)]
    wait("a line in the log", lambda: "events wait: " in server.log.text())
    worker = items_worker(site)
    said_once([worker], [("CREATED", number, "early") for number in ids])


def test_more_events_than_fit_into_memory(site, queue, make_server):
    server = make_server("memory")
    item = server.create("n 0")["id"]
    wait("the first to be sent", lambda: server.request("GET", "/healthz").json["waiting"] == 0)
    site.services.stop("rabbitmq")
    try:
        for number in range(1, 10012):
            assert server.request("PUT", f"/items/{item}", {"name": f"n {number}"}).status == 200
        health = server.request("GET", "/healthz").json
        assert (health["waiting"], health["lost"]) == (10000, 11)
        assert len(re.findall("are lost", server.log.text())) == 1
    finally:
        site.services.start("rabbitmq")
    worker = items_worker(site)
    expected = [("CREATED", item, "n 0")]
    expected += [("UPDATED", item, f"n {number}") for number in range(1, 10001)]
    said_once([worker], expected)
    assert "11 were lost" in server.log.text()


def test_a_server_that_is_killed_between_requests(site, queue, make_server):
    """Each item that the client knows of is there with its event, and no event without its item."""
    worker = items_worker(site)
    server = make_server("postgres")
    known, stop = [], threading.Event()

    def create():
        while not stop.is_set():
            try:
                known.append(server.create(f"n {len(known)}")["id"])
            except OSError:
                return
            except Exception:  # what a cut connection looks like depends on where it was cut
                return

    for _ in range(5):
        before = len(known)
        thread = threading.Thread(target=create)
        thread.start()
        wait("some items", lambda count=before: len(known) > count + 20)
        server.kill()
        stop.set()
        thread.join()
        stop.clear()
        server.start()
    stored = {row[0] for row in site.rows("select id from items")}
    assert stored >= set(known)
    wait("a line for each", lambda: len(said(worker)) >= len(stored), 60)
    assert sorted(line[1] for line in said(worker)) == sorted(stored)


def test_postgres_stopped_meanwhile(site, queue, make_server):
    server = make_server("postgres")
    item = server.create("one")
    site.services.stop("postgres")
    try:
        for method, address, body in every_request(item["id"]):
            if method != "GET" or address != "/healthz":
                problem(server.request(method, address, body), 503, "database")
        problem(server.request("GET", "/healthz"), 503, "database")
    finally:
        site.services.start("postgres")
    assert server.request("GET", "/items").json == [item]
    site.services.stop("postgres")
    site.services.start("postgres")
    assert server.create("two")["id"] > item["id"]  # on a new connection, at once
    assert len(re.findall("PostgreSQL cannot be used", server.log.text())) == 1
    assert "PostgreSQL is back" in server.log.text()


def test_requests_under_way_are_answered_at_the_end(site, queue, make_server):
    server = make_server("postgres")
    server.create("one")
    site.rows("begin")
    site.rows("lock table items")  # the request waits for this
    answers = []
    thread = threading.Thread(target=lambda: answers.append(
        server.request("POST", "/items", {"name": "late"})))
    thread.start()
    wait("it to wait", lambda: site.rows(
        "select 1 from pg_stat_activity where application_name = 'crud-server' "
        "and wait_event_type = 'Lock'"))
    server.process.terminate()
    wait("it to notice", lambda: "stopping" in server.log.text())
    site.rows("commit")
    thread.join(30)
    assert answers and answers[0].status == 201
    assert answers[0].headers["Connection"] == "close"
    assert server.process.wait(30) == 0


def test_a_database_without_the_outbox(site, queue, make_server):
    site.rows("drop function leveret_publish")
    server = make_server("postgres")
    problem(server.request("POST", "/items", {"name": "a"}), 503, "database")
    assert "leveret_publish" in server.log.text()
    assert site.rows("select to_regclass('items')") == [(None,)]


# its description and its options

def every_request(item):
    return [("GET", "/items", None), ("POST", "/items", {"name": "a"}),
            ("GET", f"/items/{item}", None), ("PUT", f"/items/{item}", {"name": "b"}),
            ("DELETE", f"/items/{item}", None), ("GET", "/healthz", None)]


def test_every_documented_answer(site, queue, make_server):
    """The client holds each answer against openapi.yaml; here every one of them is provoked."""
    server = make_server("postgres")
    item = server.create("one")["id"]
    large = {"name": "a", "description": "x" * 70000}
    for method, address, body in every_request(item) + every_request(item):
        server.request(method, address, body)
    for method, address in (("POST", "/items"), ("PUT", "/items/1")):
        server.request(method, address, "{")
        server.request(method, address, large)
    for method in ("GET", "PUT", "DELETE"):
        server.request(method, "/items/x")
    server.request("GET", "/items?limit=x")
    site.services.stop("postgres")
    try:
        for method, address, body in every_request(item):
            server.request(method, address, body)
    finally:
        site.services.start("postgres")
    left = server.api.documented() - server.api.seen
    assert left == {("POST", "/items", "507")}  # see test_memory_is_bounded


@pytest.mark.parametrize("listen,code", [
    ("nowhere", UNAVAILABLE), ("127.0.0.1", UNAVAILABLE), ("127.0.0.1:x", UNAVAILABLE),
    ("127.0.0.1:65536", UNAVAILABLE), ("192.0.2.1:80", UNAVAILABLE),
])
def test_an_address_that_cannot_be_listened_on(site, make_server, listen, code):
    server = make_server("memory")
    result = server.run("--listen", listen)
    assert result.returncode == code
    assert listen in result.stderr and len(result.stderr.splitlines()) == 1


def test_options_and_addresses(site, make_server):
    server = make_server("memory")
    assert server.run("--listne", "x").returncode == USAGE
    assert server.run("more").returncode == USAGE
    assert server.run("--help").stdout.startswith("usage: ")
    result = server.run(env={"DATABASE_URL": "postgres:/nobody:s3cret@x/"})
    assert result.returncode == 78 and "DATABASE_URL" in result.stderr
    assert "s3cret" not in result.stderr
    result = server.run(env={"RABBITMQ_URL": "http://nobody:s3cret@x/"})
    assert result.returncode == 78 and "s3cret" not in result.stderr
