"""ctx.http: many requests at once on one lane."""
import json
import time

import pytest

from harness.waiting import wait

REQUEST = """
local ok, answer, why = pcall(ctx.http.request, event.payload)
if ok and answer then
  mark(event, ctx, {status = answer.status, body = answer.body, seen = answer.headers['x-seen']})
else
  mark(event, ctx, {error = tostring(why or answer)})
end
"""


@pytest.fixture(scope="module")
def worker(shared):
    shared.handler("http.asks", REQUEST, concurrency=50)
    return shared.worker()


def ask(shared, **request):
    event = shared.publish("http.asks", request)
    return shared.wait_marks(1, id=event)[0]["note"]


def test_method_headers_and_body_go_out_and_come_back(shared, worker, web):
    note = ask(shared, method="PUT", url=web.url + "/thing?x=1", headers={"X-Own": "héllo"},
               body="a body")
    echo = json.loads(note["body"])
    assert note["status"] == 200 and note["seen"] == "PUT"
    assert echo["method"] == "PUT" and echo["path"] == "/thing?x=1" and echo["body"] == "a body"
    assert echo["headers"]["x-own"].encode("latin-1").decode() == "héllo"


def test_a_plain_get(shared, worker, web):
    echo = json.loads(ask(shared, url=web.url + "/plain")["body"])
    assert (echo["method"], echo["path"], echo["body"]) == ("GET", "/plain", "")


@pytest.mark.parametrize("status", [404, 500])
def test_a_failing_status_is_the_handlers_to_judge(shared, worker, web, status):
    assert ask(shared, url=f"{web.url}/status/{status}")["status"] == status


def test_a_connection_refused_is_the_handlers_to_judge(shared, worker, closed_port):
    note = ask(shared, url=f"http://127.0.0.1:{closed_port}/")
    assert "refused" in str(note.get("error")).lower() or "onnect" in str(note.get("error")), note


def test_a_request_may_have_a_timeout(shared, worker, web):
    assert "ime" in ask(shared, url=web.url + "/slow/20000", timeout_ms=200)["error"]


def test_a_file_cannot_be_read(shared, worker):
    assert ask(shared, url="file:///etc/passwd")["error"]


def waits_at_once(site, web, waits, at_once):
    """Requests of 100 ms, so many at once; returns events a second."""
    site.handler("http.waits", f"""
        local answer = ctx.http.request{{url = '{web.url}/slow/100/{site.prefix}/' .. event.id}}
        assert(answer.status == 200)""", concurrency=at_once)
    worker = site.worker(log={"level": "info"})
    web.running_max = 0
    began = time.monotonic()
    for number in range(waits):
        site.publish("http.waits", message_id=str(number), confirm=False)
    wait("the ledger's rows",
         lambda: site.rows("select count(*) from processed_events") == [(waits,)], 120)
    rate = waits / (time.monotonic() - began)
    paths = web.paths(f"/slow/100/{site.prefix}/")
    assert len(paths) == waits == len(set(paths))
    site.assert_settled(worker)
    return rate


def test_a_hundred_waits_at_once(site, web):
    waits_at_once(site, web, 500, 100)
    assert web.running_max > 50


@pytest.mark.full
def test_a_thousand_waits_at_once(site, web):
    rate = waits_at_once(site, web, 20000, 1000)
    print(f"{rate:.0f} events/s, publishing through pika and a server in Python included")
    assert web.running_max > 500
