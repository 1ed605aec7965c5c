"""Handlers that are shared objects, and files that would be."""
import json
import os
import shutil
import subprocess

import pytest

from harness.waiting import wait
from harness.worker import CONFIG, OK, ROOT

ACTS, WAITS = "acts.queue", "waits.queue"


@pytest.fixture(scope="module")
def queues(shared):
    return {"acts": shared.queue(ACTS), "waits": shared.queue(WAITS)}


@pytest.fixture(scope="module")
def worker(shared, queues):
    shared.rows("create table acts (number text); create table waits (number text)")
    for name, queue in queues.items():
        shared.plugin(name, queue)
    return shared.worker(plugins={
        "acts": {"greeting": "good morning", "handler": {"queue": queues["acts"], "timeout_ms": 1000}},
        "waits": {"handler": {"queue": queues["waits"]}},
    })


def act(shared, worker, payload, event="act"):
    """Publishes, and waits for what became of it."""
    event_id = shared.publish(event, payload)
    return event_id, worker.wait_log("processed|dead-lettered|dropped", id=event_id,
                                     handler="acts" if event == "act" else "waits")


def test_a_plugin_is_opened_with_its_configuration_and_its_options(worker):
    assert worker.wait_log("good morning", handler="acts")["version"]
    loaded = worker.wait_log("handler loaded", handler="waits")
    assert loaded["file"].endswith("/waits.so")


@pytest.mark.parametrize("do, text", [("", "processed"), ("drop", "dropped"),
                                      ("reject", "dead-lettered")])
def test_its_verdicts_are_the_workers(shared, worker, do, text):
    _, record = act(shared, worker, {"do": do})
    assert text in record["text"]


def test_an_unknown_verdict_is_a_failed_attempt(shared, worker):
    event_id, record = act(shared, worker, {"do": "unknown"})
    assert record["reason"] == "the plugin's verdict is 42, which is none"
    assert len(worker.log.records("which is none", id=event_id)) == 3  # one for each attempt


def test_it_writes_in_the_transaction_of_the_record(shared, worker, queues):
    event_id, _ = act(shared, worker, {"do": "query"})
    assert worker.wait_log("the statements are answered", id=event_id)["order"] == "123"
    assert shared.rows("select number from acts") == [("1",), ("2",), ("3",)]
    assert (queues["acts"], "act", event_id) in shared.ledger()


def test_invalid_data_goes_to_the_dead_letters_at_once(shared, worker):
    event_id, record = act(shared, worker, {"do": "bad query"})
    assert "division by zero" in record["reason"]
    assert record["attempt"] == 1


def test_it_uses_the_cache(shared, worker, redis):
    event_id, _ = act(shared, worker, {"do": "redis"})
    assert redis.get("acts:key") == event_id
    event_id, _ = act(shared, worker, {"do": "invalidate"})
    assert worker.wait_log("invalidated", id=event_id)["count"] == 1
    assert redis.get("acts:key") is None


def test_it_makes_requests(shared, worker, web):
    event_id, _ = act(shared, worker, {"do": "http", "url": web.url + "/plugin"})
    assert worker.wait_log("responded", id=event_id)["status"] == 200
    request = [request for request in web.requests if request.path == "/plugin"][0]
    assert request.method == "POST"
    assert {name.lower(): value for name, value in request.headers.items()}["x-acts"] == "yes"


def asked(event, do="publish", **publish):
    return {"do": do, "publish": {"event": event, **publish}}


@pytest.mark.parametrize("event", ["act", "wait"])
@pytest.mark.parametrize("do", ["publish", "publish in transaction"])
def test_it_publishes(shared, worker, event, do):
    """With a callback or waiting for it; confirmed, or through the outbox."""
    own = f"{event} {do}"
    event_id, _ = act(shared, worker, asked(event, do, id=own, payload={"do": ""}), event)
    assert worker.wait_log("published", id=event_id)["published"] == own
    worker.wait_log("processed", id=own)
    wait("an empty outbox", lambda: worker.metric("leveret_outbox_pending") == 0)


@pytest.mark.parametrize("publish, why", [
    ({"payload": [1]}, "status 1: the payload is not a JSON object"),
    ({"raw": '{"a":}'}, "status 1: the payload is not JSON"),
    ({"too much": 1}, "status 1: the body would have"),
    ({"exchange": "no.such.exchange"}, "no.such.exchange"),
    ({"queue": "no.such.queue"}, "status 1: no queue took it"),
    ({"priority": -2}, "status 1: priority is -2; it must be from 0 to 255"),
    ({"headers": {"leveret-attempt": 1}}, "status 1: the header leveret-attempt cannot be set"),
    ({"size": 8}, "status 3: an event to publish begins with leveret_publish()"),
])
@pytest.mark.parametrize("event", ["act", "wait"])
def test_what_it_cannot_publish_it_is_told(shared, worker, event, publish, why):
    event_id, record = act(shared, worker, asked("act", **publish), event)
    assert why in record["reason"]


def test_another_thread_finishes_an_event(shared, worker):
    event_id, record = act(shared, worker, {"do": "thread", "number": 5, "ms": 20})
    assert "processed" in record["text"]
    assert worker.wait_log("finished from a thread", id=event_id)["number"] == 5


def test_the_second_finish_of_an_event_has_no_effect(shared, worker):
    event_id, _ = act(shared, worker, {"do": "twice"})
    worker.wait_log("finished an event that it had finished before", handler="acts")
    worker.wait_idle()
    assert len(worker.log.records("processed", id=event_id)) == 1


def test_what_is_never_finished_times_out(shared, worker):
    _, record = act(shared, worker, {"do": "never"})
    assert record["reason"] == "the handler did not finish within timeout_ms = 1000"


def test_a_late_finish_has_no_effect(shared, worker):
    event_id = shared.publish("act", {"do": "thread", "number": 6, "ms": 1300})
    worker.wait_log("did not finish within", id=event_id)
    worker.wait_log("finished from a thread", id=event_id)
    worker.wait_log("dead-lettered", id=event_id)
    assert not worker.log.records("processed", id=event_id)


def test_a_blocking_plugin_waits_for_its_answers(shared, worker, redis, queues):
    event_id, record = act(shared, worker, {"do": "query"}, "wait")
    assert "processed" in record["text"]
    answer = worker.wait_log("answered", id=event_id)
    assert (answer["number"], answer["last"], answer["nulls"]) == ("7", "none", 1)
    assert shared.rows("select number from waits") == [("7",)]
    assert (queues["waits"], "wait", event_id) in shared.ledger()
    event_id, _ = act(shared, worker, {"do": "redis"}, "wait")
    assert redis.get("waits:key") == event_id
    redis.delete("waits:key")


def test_a_blocking_plugin_holds_up_nobody_else(shared, worker):
    blocked = [shared.publish("wait", {"do": "block", "ms": 1000}) for _ in range(4)]
    _, record = act(shared, worker, {"do": ""})
    assert record["duration_ms"] < 500
    for event_id in blocked:
        worker.wait_log("processed", id=event_id)


def test_everything_is_settled_at_the_end(shared, worker):
    """And both plugins are closed, with their threads."""
    shared.assert_settled(worker)
    assert worker.log.records("acts is closed") and worker.log.records("waits is closed")


def test_a_thread_that_does_not_come_back_does_not_hold_up_the_shutdown(site):
    site.plugin("waits", site.queue(WAITS))
    worker = site.worker(shutdown_timeout_ms=500, plugins={
        "waits": {"handler": {"queue": site.queue(WAITS), "timeout_ms": 60000}}})
    site.publish("wait", {"do": "block", "ms": 60000})
    wait("the event in flight", lambda: worker.metric("leveret_in_flight") == 1)
    worker.stop(timeout_s=10)
    assert worker.log.records("they are left to themselves", handler="waits")


# the example

@pytest.fixture(scope="module")
def include(tmp_path_factory):
    """As it is when leveret is installed: its public headers, and nothing else of it."""
    folder = tmp_path_factory.mktemp("include")
    shutil.copytree(ROOT / "core/include/leveret", folder / "leveret")
    return folder


def test_the_example_builds_out_of_the_tree_and_works(site, include):
    source = ROOT / "examples/plugin/count_replies.c"
    subprocess.run(["cc", "-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-shared",
                    "-fPIC", "-fvisibility=hidden", f"-I{include}", "-o",
                    site.handlers / "count_replies.so", source], check=True)
    site.rows("create table replies (ticket_id text primary key, count bigint not null)")
    site.queues.add(site.queue("replies"))
    worker = site.worker(plugins={
        "count_replies": {"handler": {"queue": site.queue("replies"), "retry": {"max": 0}}}})
    for _ in range(3):
        site.publish("message.sent", {"ticketId": "t-1"})
    wait("three replies", lambda: site.rows("select * from replies") == [("t-1", 3)])
    site.publish("message.sent", {"text": "without a ticket"})
    assert site.dead().header("leveret-error") == "the payload has no usable ticketId"
    site.assert_settled(worker)


@pytest.mark.skipif(not shutil.which("c++"), reason="no C++ compiler")
def test_the_header_is_fit_for_cplusplus(tmp_path, include):
    source = tmp_path / "header.cpp"
    source.write_text("#include <leveret/plugin.h>\n"
                      "const leveret_plugin *describe(const leveret_host *host) {\n"
                      "    return LEVERET_HOST_HAS(host, sleep) ? nullptr : nullptr;\n}\n")
    subprocess.run(["c++", "-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{include}",
                    "-fsyntax-only", source], check=True)


# what is no plugin

WRONG = [
    ("wrong_entry", "exports no function leveret_plugin_entry"),
    ("wrong_null", "returned NULL"),
    ("wrong_size", "its descriptor has the wrong size"),
    ("wrong_no_size", "its descriptor has the wrong size"),
    ("wrong_major", "built for version 2.0 of the plugin interface"),
    ("wrong_minor", "a newer leveret is needed"),
    ("wrong_callback", "its descriptor's handle is NULL"),
    ("wrong_events", "its descriptor names no events"),
    ("wrong_flags", "unknown flags"),
    ("wrong_json", "no valid JSON"),
    ("wrong_option", 'unknown key "retry.maximum"; did you mean "retry.max"?'),
    ("wrong_open", "cannot be opened: there is no disk"),
    ("wrong_symbol", "undefined symbol: leveret_tests_nobody_has_this"),
    ("wrong_crash", "died as it was loaded, in a child process: signal"),
    ("wrong_exit", "ended the process as it was loaded, a child, with status 3"),
    pytest.param("wrong_hang", "did not come back from being loaded, in a child process, within 5",
                 marks=pytest.mark.full),
]


def check(site, **changes):
    return site.leveret("check", "-c", site.write_config(**changes))


def assert_refused(site, path, text, **changes):
    """In one line, which names the file."""
    result = check(site, **changes)
    assert result.returncode == CONFIG, result.stdout + result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("leveret: ")]
    assert len(lines) == 1, result.stderr
    assert text in lines[0] and str(path) in lines[0]


@pytest.mark.parametrize("name, text", WRONG)
def test_a_wrong_plugin_is_refused(site, name, text):
    assert_refused(site, site.plugin(name), text)


def spoil(path, at, data):
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(data)


def test_a_file_for_another_architecture_is_refused(site):
    path = site.plugin("acts")
    machine = os.uname().machine
    spoil(path, 18, b"\xb7\x00" if machine == "x86_64" else b"\x3e\x00")
    assert_refused(site, path, "is built for another kind of machine")


def test_a_text_file_is_refused(site):
    path = site.handler_file("text.so", "return function() end\n")
    assert_refused(site, path, "is no shared object")


def test_an_empty_file_is_refused(site):
    assert_refused(site, site.handler_file("empty.so", ""), "is empty")


@pytest.mark.parametrize("length", [10, 63, 4096])
def test_a_file_that_is_cut_short_is_refused(site, length):
    path = site.plugin("acts")
    os.truncate(path, length)
    assert_refused(site, path, "is cut short")


def test_two_handlers_for_one_event_on_one_queue_are_refused(site):
    site.handler("act", "", queue=ACTS)
    assert_refused(site, site.plugin("acts"), "act")


def test_an_unknown_option_in_the_configuration_is_refused(site):
    site.plugin("acts")
    result = check(site, plugins={"acts": {"handler": {"quue": "x"}}})
    assert result.returncode == CONFIG
    assert 'plugins.acts.handler: unknown key "quue"; did you mean "queue"?' in result.stderr


def test_the_plugins_of_the_configuration_are_tables(site):
    site.plugin("acts")
    result = check(site, plugins={"acts": "secret"})
    assert result.returncode == CONFIG
    assert "plugins must be a table of tables" in result.stderr and "secret" not in result.stderr


def test_check_shows_a_plugins_routes(site):
    site.plugin("acts")
    result = check(site, plugins={"acts": {"password": "secret"}})
    assert result.returncode == OK, result.stderr
    assert "acts 1.2.3" in result.stdout and "act, act.#" in result.stdout
    assert "secret" not in result.stdout + result.stderr


def test_a_misspelt_plugin_of_the_configuration_is_warned_of(site):
    site.plugin("acts")
    result = check(site, plugins={"act": {}})
    assert result.returncode == OK
    assert "plugins name one that is not there" in result.stdout + result.stderr


@pytest.mark.parametrize("plugin, event", [("acts", "act"), ("waits", "wait")])
def test_exec_runs_a_plugin(site, plugin, event):
    """Its threads, too: the answers are made up, the verdict is its own."""
    path = site.directory / "event.json"
    path.write_text(json.dumps({"event": event, "id": "1", "payload": {"do": "redis"}}))
    result = site.leveret("exec", "-c", site.write_config(), site.plugin(plugin), path)
    assert result.returncode == OK, result.stdout + result.stderr
    assert "SET" in result.stdout and "done" in result.stdout


@pytest.mark.parametrize("plugin, event", [("acts", "act"), ("waits", "wait")])
@pytest.mark.parametrize("do, when", [("publish", ""),
                                      ("publish in transaction", "  (waits for the commit)")])
def test_exec_shows_what_a_plugin_publishes(site, plugin, event, do, when):
    path = site.directory / "event.json"
    path.write_text(json.dumps({"event": event, "id": "1",
                                "payload": asked("order.made", do, id="own", payload={"n": 1})}))
    result = site.leveret("exec", "-c", site.write_config(), site.plugin(plugin), path)
    assert result.returncode == OK, result.stdout + result.stderr
    line = next(line for line in result.stdout.splitlines() if "  publish" in line)
    assert "order.made" in line and '{"n": 1}' in line and line.endswith(when), result.stdout
