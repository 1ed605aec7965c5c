"""Events in any of the known envelopes: a handler sees one shape."""
import json

import pytest

TIME = "2026-02-18T18:23:45Z"
PAYLOAD = {"id": 7, "list": [], "none": None, "exact": 12345678901234567}
CE = {"specversion": "1.0", "type": "thing.done", "source": "/tests", "id": "e-1", "time": TIME}
# its kind; body, headers; the event's own id and time where the envelope has them
ENVELOPES = {
    "event": ("event", {"event": "thing.done", "payload": PAYLOAD}, {}, None, None),
    "item": ("item", {"type": "thing.done", "item": PAYLOAD, "timestamp": TIME}, {}, None, TIME),
    "message": ("message", {"id": "e-1", "type": "thing.done", "payload": PAYLOAD,
                            "max_attempts": 3, "delay": 0, "priority": 1, "created_at": TIME},
                {}, "e-1", TIME),
    "structured": ("cloudevents", {**CE, "data": PAYLOAD}, {}, "e-1", TIME),
    **{"binary " + prefix: ("cloudevents", PAYLOAD,
                            {prefix + name: value for name, value in CE.items()}, "e-1", TIME)
       for prefix in ("cloudEvents:", "cloudEvents_", "ce-", "ce_")},
}
SHAPE = """
mark(event, ctx, { payload = event.payload, time = event.time,
                   null = type(event.payload) == 'table' and event.payload.none == ctx.null })
"""


def send(site, queue, name, **properties):
    _, body, headers, _, _ = ENVELOPES[name]
    site.broker.publish("", queue, json.dumps(body), headers=headers or None, **properties)


@pytest.mark.parametrize("how", ["detected", "named"])
def test_a_handler_sees_one_shape(site, how):
    names = {name: site.queue(str(number)) for number, name in enumerate(ENVELOPES)}
    for number, (name, queue) in enumerate(names.items()):
        kind = ENVELOPES[name][0] if how == "named" else "auto"
        site.handler(f"handler{number}", SHAPE, queue=queue, events=["thing.done"], bind=False,
                     envelope=kind)
    worker = site.worker()
    for name, queue in names.items():
        send(site, queue, name)
    for mark in site.wait_marks(len(names)):
        name = next(name for name, queue in names.items() if queue == mark["queue"])
        _, _, _, event_id, time = ENVELOPES[name]
        assert (mark["type"], mark.get("id"), mark["attempt"]) == ("thing.done", event_id, 1), name
        assert mark["note"] == {"payload": PAYLOAD, "null": True,
                                **({"time": time} if time else {})}, name
    site.assert_settled(worker)


def test_all_of_them_in_one_queue(site):
    """They are told apart by what they are, not by what came before."""
    site.handler("thing.done", SHAPE)
    worker = site.worker()
    for number in range(3):
        for name in ENVELOPES:
            send(site, site.queue("thing.done"), name, message_id=f"{name} {number}")
    marks = site.wait_marks(3 * len(ENVELOPES))
    assert {mark["id"] for mark in marks} == {f"{name} {number}" for name in ENVELOPES
                                              for number in range(3)}
    assert all(mark["note"]["payload"] == PAYLOAD for mark in marks)
    site.assert_settled(worker)


@pytest.mark.parametrize("kind,wrong", [
    ("event", "item"), ("event", "structured"), ("item", "event"), ("message", "event"),
    ("cloudevents", "event"), ("cloudevents", "item"),
])
def test_a_queue_is_held_to_its_envelope(site, kind, wrong):
    site.handler("thing.done", SHAPE, envelope=kind)
    worker = site.worker()
    send(site, site.queue("thing.done"), wrong)
    dead = site.dead()
    assert "names no event type" in dead.header("leveret-error")
    assert json.loads(dead.body) == ENVELOPES[wrong][1]
    assert not site.marks()
    site.assert_settled(worker)
