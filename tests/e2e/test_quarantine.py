"""Events that end the process that handles them, and the others, which must not pay for it."""
import json
import os
from signal import SIGKILL
import time
import uuid

import pytest

from harness.waiting import wait

LOOP, THREADS = "crashes", "crashes_threads"
TYPES = {LOOP: "crash", THREADS: "crash.thread"}
# How a lane ends, and what its supervisor says of it.
DEATHS = {"segv": "SIGSEGV", "abort": "SIGABRT", "exit": "exit(3)", "leave": "exit(4)",
          "overflow": "SIGSEGV", "hang": "it did not come back"}
HARD_MS = 600


def unguarded(site):
    """Faults are the point here: sanitizers must leave them to the program."""
    log = f"log_path={site.directory}/sanitizer:exitcode=99"
    faults = "handle_segv=0:handle_abort=0:handle_sigbus=0:handle_sigfpe=0:handle_sigill=0"
    return {"ASAN_OPTIONS": f"{log}:detect_leaks=0:{faults}", "TSAN_OPTIONS": f"{log}:{faults}",
            "UBSAN_OPTIONS": f"{log}:{faults}"}


def plugin_queues(site, **options):
    """Both plugins, each with a queue of its own."""
    values = {}
    for name in TYPES:
        queue = site.queue(name)
        site.plugin(name, queue)
        values[name] = {"handler": {"queue": queue, "retry": {"max": 3, "base_ms": 1}, **options}}
    return values


def start(site, **changes):
    changes.setdefault("state_dir", str(site.directory / "state"))
    changes.setdefault("hard_timeout_ms", HARD_MS)
    return site.worker(env=unguarded(site), plugins=plugin_queues(site), **changes)


@pytest.fixture(scope="module")
def worker(shared):
    return start(shared)


def ends(worker, event_id):
    """What was said of an event's end: once more, when its ack was lost with the lane."""
    return worker.log.records("processed|dead-lettered", id=event_id)


def wait_first_attempt(worker, event_ids):
    """Each was handled, once, and at its first attempt."""
    for event_id in event_ids:
        records = wait("its end", lambda event_id=event_id: ends(worker, event_id))
        assert {record["attempt"] for record in records} == {1}, records
        assert len([record for record in records if record["text"] == "processed"]) <= 1, records


@pytest.mark.parametrize("how", DEATHS)
@pytest.mark.parametrize("plugin", TYPES)
def test_only_the_culprit_is_charged(shared, worker, plugin, how):
    before = [shared.publish(TYPES[plugin], {"ms": 20}) for _ in range(8)]
    culprit = shared.publish(TYPES[plugin], {"do": how, "ms": 20})
    after = [shared.publish(TYPES[plugin], {"ms": 20}) for _ in range(8)]
    letter = shared.dead()
    assert letter.properties.message_id == culprit
    assert letter.header("leveret-error").startswith(f"crash: {DEATHS[how]} in handler {plugin}")
    assert letter.header("leveret-handler") == plugin
    assert letter.header("leveret-attempt") == 2
    assert json.loads(letter.body) == {"event": TYPES[plugin], "payload": {"do": how, "ms": 20}}
    wait_first_attempt(worker, before + after)
    charges = worker.log.records("is charged", id=culprit)
    assert [charge["attempt"] for charge in charges] == [1, 2]
    assert charges[0]["death"] == DEATHS[how]
    assert worker.log.records("is charged")[-1]["id"] == culprit


def test_a_plugin_that_crashes_in_its_open_is_named(site):
    site.plugin(LOOP, site.queue(LOOP))
    worker = site.worker(ready=False, env=unguarded(site), log={"level": "warn"},
                         plugins={LOOP: {"open": "segv", "handler": {"queue": site.queue(LOOP)}}})
    worker.wait_log("a lane died", death="SIGSEGV")
    worker.wait_log("it died while a plugin opened", handler=LOOP)


def test_fifty_prefetched_events_of_which_one_crashes(site):
    worker = start(site)  # declares the queue
    worker.stop()
    ids = [str(uuid.uuid4()) for _ in range(50)]
    for number, event_id in enumerate(ids):
        site.publish(TYPES[LOOP], {"do": "segv"} if number == 20 else {},
                     queue=site.queue(LOOP), message_id=event_id)
    worker.start()
    worker.wait_log("dead-lettered", id=ids[20])
    wait_first_attempt(worker, ids[:20] + ids[21:])
    letter = site.dead()
    assert letter.header("leveret-error").startswith("crash: SIGSEGV")
    assert site.broker.get(site.dead_letter) is None
    assert len(worker.log.records("a lane died")) == 2
    assert len(site.ledger()) == 49


def test_an_event_without_an_id_is_known_by_its_body(site):
    worker = start(site)
    site.publish(TYPES[LOOP], {"do": "abort"}, message_id=None)
    site.publish(TYPES[LOOP], {}, message_id=None)
    letter = site.dead()
    assert letter.header("leveret-attempt") == 2
    wait("the other one's end", lambda: worker.log.records("processed", attempt=1))
    assert len(worker.log.records("is charged")) == 2


def test_charges_outlive_the_supervisor(site):
    worker = start(site, crash_limit=3)
    event_id = site.publish(TYPES[LOOP], {"do": "segv"})
    worker.wait_log("is charged", id=event_id)
    worker.kill()
    first = len(worker.log.records("is charged", id=event_id))
    assert first < 3
    worker.start()
    letter = site.dead()
    assert letter.header("leveret-attempt") == 3
    assert "3 times" in letter.header("leveret-error")
    assert len(worker.log.records("is charged", id=event_id)) == 3


def test_a_damaged_file_of_charges_is_read_as_far_as_it_goes(site):
    worker = start(site, crash_limit=3)
    event_id = site.publish(TYPES[LOOP], {"do": "segv"})
    worker.wait_log("is charged", id=event_id)
    worker.kill()
    first = len(worker.log.records("is charged", id=event_id))
    [path] = (site.directory / "state").glob("*.charges")
    path.write_bytes(path.read_bytes() + b"torn")
    worker.start()
    worker.wait_log("charges' file is damaged")
    assert site.dead().header("leveret-attempt") == 3
    assert len(worker.log.records("is charged", id=event_id)) == 3 > first


def test_a_replayed_dead_letter_begins_anew(site):
    worker = start(site)
    event_id = site.publish(TYPES[LOOP], {"do": "segv"})
    worker.wait_log("dead-lettered", id=event_id)
    wait("the charge's end", lambda: site.broker.depth(site.dead_letter) == 1)
    time.sleep(1)  # the supervisor looks four times a second
    result = site.leveret("dlq", "replay", "-c", site.write_config())
    assert result.returncode == 0, result.stderr
    wait("two more crashes",
         lambda: [1, 2, 1, 2] == [record["attempt"] for record in
                                  worker.log.records("is charged", id=event_id)])


def test_after_a_kill_what_was_under_way_runs_alone(site):
    site.handler("slow.one", """
        local ms = ctx.redis.exists(MARKS .. ':killed') == 1 and 150 or 600000
        mark(event, ctx, "begin")
        ctx.sleep(ms)
        mark(event, ctx, "end")
    """, events=["slow.one"], concurrency=10, timeout_ms=700000)
    worker = site.worker(state_dir=str(site.directory / "state"))
    ids = [site.publish("slow.one", {}) for _ in range(10)]
    wait("all of them to have begun", lambda: len(site.marks(note="begin")) == 10)
    site.redis.set(site.marks_key + ":killed", 1, ex=600)
    started = time.monotonic()
    [lane] = worker.lanes()
    os.kill(lane, SIGKILL)
    worker.wait_log("they run again one at a time")
    wait_first_attempt(worker, ids)
    assert time.monotonic() - started > 10 * 0.15
    again = sorted((mark["at_us"], mark["note"]) for mark in site.marks())[-20:]
    assert [note for _, note in again] == ["begin", "end"] * 10
    assert not worker.log.records("is charged")
    # They have shown that they do no harm: the next ones run side by side.
    more = [site.publish("slow.one", {}) for _ in range(10)]
    for event_id in more:
        wait("its end", lambda event_id=event_id: ends(worker, event_id))
    site.assert_settled(worker)


def test_a_second_kill_charges_the_suspect(site):
    site.handler("deadly.one", """
        mark(event, ctx, "begin")
        ctx.sleep(20000)
    """, events=["deadly.one"])
    worker = site.worker(state_dir=str(site.directory / "state"), crash_limit=1,
                         shutdown_timeout_ms=0)
    site.publish("deadly.one", {})
    for runs in (1, 2):
        wait("its run", lambda runs=runs: len(site.marks(note="begin")) == runs)
        os.kill(worker.lanes()[0], SIGKILL)
    letter = site.dead()
    assert letter.header("leveret-error").startswith("crash: SIGKILL in handler deadly.one")
    assert letter.header("leveret-attempt") == 1
    assert len(site.marks()) == 2


def test_the_brokers_count_makes_a_suspect(site):
    """As on a host that has seen nothing of it."""
    site.handler("often.one", """
        mark(event, ctx, "begin")
        ctx.sleep(200)
        mark(event, ctx, "end")
    """, events=["often.one"], concurrency=10)
    first = site.worker(shutdown_timeout_ms=0)
    for _ in range(4):
        site.publish("often.one", {})
    for runs in range(1, 6):  # the first delivery counts as none
        wait("their runs", lambda runs=runs: len(site.marks(note="begin")) >= 4 * runs)
        if runs < 5:
            first.kill()
            first.start()
        else:
            first.kill()
    seen = len(site.marks())
    site.worker()
    wait("their end", lambda: len(site.marks()) == seen + 8)
    assert [mark["note"] for mark in site.marks()[seen:]] == ["begin", "end"] * 4
