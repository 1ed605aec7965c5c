"""Logs, metrics, health, and what they must not tell."""
import json
import re
from urllib.parse import urlsplit

import pytest

from harness.waiting import wait


@pytest.fixture(scope="module")
def worker(shared):
    shared.handler("op.good", "ctx.log.info('from the handler', {number = 7, list = {1, 2}}) "
                              "mark(event, ctx)")
    shared.handler("op.bad", "error('boom')", retry={"max": 1, "base_ms": 250})
    shared.handler("op.dropped", "ctx.drop('not needed')")
    worker = shared.worker()
    event = shared.publish("op.good", message_id="op-1")
    worker.wait_outcomes("processed", 1)
    shared.publish("op.good", message_id=event)
    shared.publish("op.bad", message_id="op-2")
    shared.publish("op.dropped", message_id="op-3")
    worker.wait_outcomes("duplicate", 1)
    worker.wait_outcomes("dropped", 1)
    worker.wait_outcomes("failed", 1)
    return worker


def test_events_are_counted_by_type_and_outcome(shared, worker):
    metrics = worker.metrics()
    assert metrics.types["leveret_events_total"] == "counter"
    counts = {(event, outcome): metrics.sum("leveret_events_total", event=event, outcome=outcome)
              for event in ("op.good", "op.bad", "op.dropped")
              for outcome in ("processed", "failed", "retried", "duplicate", "dropped")}
    assert {key for key, value in counts.items() if value} == {
        ("op.good", "processed"), ("op.good", "duplicate"), ("op.bad", "retried"),
        ("op.bad", "failed"), ("op.dropped", "dropped")}


def test_every_metric_of_the_reference_is_there(shared, worker):
    metrics = worker.metrics()
    for name, kind in {
            "leveret_events_total": "counter", "leveret_published_total": "counter",
            "leveret_handler_seconds": "histogram", "leveret_event_age_seconds": "histogram",
            "leveret_in_flight": "gauge", "leveret_queue_depth": "gauge",
            "leveret_consumers": "gauge", "leveret_connected": "gauge"}.items():
        assert metrics.types.get(name) == kind, name
    assert metrics.sum("leveret_handler_seconds_count", event="op.bad") == 2
    assert metrics.sum("leveret_published_total", event="op.bad") == 2, "a retry, a dead letter"
    targets = [dict(labels)["to"] for name, labels in metrics.samples
               if name == "leveret_connected"]
    for service in ("rabbitmq", "postgres", "redis"):
        assert any(service in target.lower() for target in targets), targets


def test_queue_depth_counts_dead_letters_too(shared, worker):
    wait("the dead letter in the depth", lambda: worker.metric(
        "leveret_queue_depth", queue=shared.dead_letter) == 1)
    assert worker.metric("leveret_consumers", queue=shared.queue("op.good")) >= 1
    counters = json.loads(worker.get("/metrics.json")[1])
    assert counters["failed"] == 1 and counters["retried"] == 1 and counters["duplicates"] == 1


@pytest.mark.parametrize("path,code", [("/livez", 200), ("/readyz", 200), ("/metrics", 200),
                                       ("/metrics.json", 200), ("/nothing", 404)])
def test_admin_pages(worker, path, code):
    assert worker.get(path)[0] == code


def test_each_outcome_has_one_line_with_event_id_and_duration(worker):
    for pattern, event, event_id in (('"processed"', "op.good", "op-1"),
                                     ("already processed", "op.good", "op-1"),
                                     ("attempt 1/1 after 250 ms", "op.bad", "op-2"),
                                     ("dead letter|failed", "op.bad", "op-2"),
                                     ("dropped", "op.dropped", "op-3")):
        records = worker.log.records(pattern, event=event, id=event_id)
        assert len(records) == 1, f"{pattern}: {records}"
        if pattern != "already processed":
            assert any("duration" in key or key.endswith("_ms") for key in records[0]), records[0]


def test_a_handlers_line_carries_its_event(worker):
    record = worker.log.records("from the handler")[0]
    assert (record["event"], record["id"], record["number"]) == ("op.good", "op-1", 7)
    assert record["list"] == [1, 2]
    assert record["level"] == "info"


def test_every_line_of_a_json_log_is_json_with_time_and_level(worker):
    for line in worker.log.text().splitlines():
        record = json.loads(line)
        assert record["level"] in ("debug", "info", "warn", "error")
        assert any(re.match(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d", str(value))
                   for value in record.values()), line


def test_secrets_never_show(shared, worker, services):
    texts = [worker.log.text()] + [worker.get(path)[1] for path in
                                   ("/metrics", "/metrics.json", "/readyz", "/livez", "/nothing")]
    for url in (services.database_url, services.redis_url):
        password = urlsplit(url).password
        assert len(password) > 10
        assert not any(password in text for text in texts)
    assert "guest:guest" not in texts[0]


def test_text_logs_name_event_id_and_outcome(site):
    site.handler("op.good", "ctx.log.warn('from the handler', {number = 7, text = 'two words'})")
    worker = site.worker(log={"format": "text"})
    site.publish("op.good", message_id="op-text")
    worker.wait_outcomes("processed", 1)
    lines = [line for line in worker.log.text().splitlines() if "op-text" in line]
    assert any("processed" in line and "op.good" in line for line in lines)
    assert any("from the handler" in line and "number=7" in line for line in lines)
    assert "\033" not in worker.log.text(), "colours belong to terminals"


def test_variables_win_over_the_file(site, services, closed_port):
    site.handler("op.good", "mark(event, ctx)")
    at = f"wr0ng@127.0.0.1:{closed_port}"
    worker = site.worker(
        rabbitmq={"url": f"amqp://wrong:{at}/"}, postgres={"url": f"postgresql://wrong:{at}/x"},
        redis={"url": f"redis://:{at}/0"},
        env={"RABBITMQ_URL": services.rabbitmq_url, "DATABASE_URL": site.database_url,
             "REDIS_URL": services.redis_url, "LEVERET_NAME": "by-variable",
             "LEVERET_RABBITMQ_PREFETCH": "7"})
    site.publish("op.good")
    worker.wait_outcomes("processed", 1)
    assert site.rows("select processor_name from processed_events") == [("by-variable",)]


def test_a_log_line_is_one_line_whatever_an_event_says(site):
    site.handler("op.good", "ctx.log.info(event.payload) error(event.payload)", retry={"max": 0})
    worker = site.worker()
    forged = 'x\n{"level": "error", "text": "forged"}\r\n\033[31m'
    site.publish("op.good", forged, message_id="id\nnew line")
    dead = site.dead()
    assert "forged" in dead.header("leveret-error")
    for line in worker.log.text().splitlines():
        assert json.loads(line)["text"] != "forged"


def test_many_types_do_not_fill_the_metrics(site):
    """Whoever publishes chooses the types; the counters must not grow with them."""
    site.handler("op.any", "", events=["op.#"], bind=["op.#"], concurrency=100)
    worker = site.worker(log={"level": "info"})
    for number in range(1500):
        site.publish(f"op.n{number}", confirm=False)
    wait("all of them", lambda: worker.outcomes("processed") == 1500, 60)
    events = {dict(labels)["event"] for name, labels in worker.metrics().samples
              if name == "leveret_events_total"}
    assert len(events) <= 1001


