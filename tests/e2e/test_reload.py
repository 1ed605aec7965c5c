"""Handlers that follow their files while events flow."""
import contextlib
import os
import shutil
import signal
import threading
import time

import pytest

from harness.broker import Broker
from harness.waiting import wait


def version_of(worker, handler):
    """The versions of a handler that the metrics name now."""
    return {dict(labels)["version"] for (name, labels) in worker.metrics().samples
            if name == "leveret_handler_info" and dict(labels)["handler"] == handler}


def reloads(worker, handler, result):
    return worker.metric("leveret_reloads_total", handler=handler, result=result)


def wait_reload(worker, handler, result="ok", count=1):
    wait(f"{count} reloads of {handler}: {result}",
         lambda: reloads(worker, handler, result) >= count)


def note(site, name, text, **options):
    """A handler that marks its events with a text."""
    return site.handler(name, f"mark(event, ctx, '{text}')", **options)


def noted(site, name, text):
    """Publishes an event, and whether it was handled by the handler with that text."""
    event = site.publish(name)
    mark = wait(f"event {event}", lambda: site.marks(id=event))[0]
    return mark["note"] == text


def save_by_rename(path, text):
    """As editors do: a new file takes the old one's name, and a backup is left."""
    for extra in (path.with_name("." + path.name + ".swp"), path.with_name("4913"),
                  path.with_name(path.name + "~")):
        extra.write_text("not a handler")
    new = path.with_name(path.name + ".tmp")
    new.write_text(text)
    os.replace(new, path)


@pytest.mark.parametrize("save", [lambda path, text: path.write_text(text), save_by_rename],
                         ids=["in-place", "by-rename"])
def test_an_edit_is_served_without_a_restart(site, save):
    path = note(site, "re.load", "one")
    worker = site.worker()
    assert noted(site, "re.load", "one")
    before, = version_of(worker, "re.load")
    save(path, path.read_text().replace("'one'", "'two'"))
    wait_reload(worker, "re.load")
    assert noted(site, "re.load", "two")
    after, = version_of(worker, "re.load")
    assert before != after
    record = worker.wait_log("handler reloaded", handler="re.load")
    assert (record["before"], record["version"]) == (before, after)
    worker.wait_outcomes("processed", 2)
    assert [r["version"] for r in worker.log.records('"processed"')] == [before, after]
    assert worker.metric("leveret_handler_seconds_count", version=before) == 1
    assert worker.metric("leveret_handler_seconds_count", version=after) == 1
    site.assert_settled(worker)


def test_a_handlers_own_lines_carry_its_version(site):
    site.handler("re.load", "ctx.log.info('from the handler')")
    worker = site.worker()
    site.publish("re.load")
    record = worker.wait_log("from the handler")
    assert {record["version"]} == version_of(worker, "re.load")


def test_events_in_flight_finish_on_the_old_one(site):
    path = site.handler("re.load", "ctx.redis.incr('%s:began') ctx.sleep(1500) "
                                   "mark(event, ctx, 'one')" % site.prefix, concurrency=2)
    worker = site.worker()
    for _ in range(4):
        site.publish("re.load")
    wait("two that run", lambda: site.redis.get(site.prefix + ":began") == "2")
    path.write_text(path.read_text().replace("ctx.sleep(1500)", "").replace("'one'", "'two'"))
    wait_reload(worker, "re.load")
    marks = site.wait_marks(4)
    assert sorted(mark["note"] for mark in marks) == ["one", "one", "two", "two"]
    assert all(mark["attempt"] == 1 for mark in marks)
    site.redis.delete(site.prefix + ":began")
    site.assert_settled(worker)


def test_a_half_written_file_waits_for_its_other_half(site):
    path = note(site, "re.load", "one")
    worker = site.worker()
    text = path.read_text().replace("'one'", "'two'")
    with open(path, "w", encoding="ascii") as file:
        file.write(text[:len(text) // 2])
        file.flush()
        time.sleep(1.5)  # longer than a folder takes to settle
        assert noted(site, "re.load", "one")
        file.write(text[len(text) // 2:])
    wait_reload(worker, "re.load")
    assert noted(site, "re.load", "two")
    assert reloads(worker, "re.load", "failed") == 0


def test_a_thousand_saves_are_few_reloads(site):
    path = note(site, "re.load", "one")
    worker = site.worker()
    text = path.read_text()
    began = time.monotonic()
    for number in range(1000):
        path.write_text(text.replace("'one'", f"'save {number}'"))
    took_s = time.monotonic() - began
    final = path.read_text()
    wait("the last save", lambda: noted(site, "re.load", "save 999"))
    assert "save 999" in final
    assert 1 <= reloads(worker, "re.load", "ok") <= took_s + 3
    assert reloads(worker, "re.load", "failed") == 0


@pytest.mark.parametrize("wrong,reason", [
    ("return {", "re.load.lua:1"),
    ("return 7", "must return a function"),
    ("", "must return a function"),
    ("return { handle = function() end, retires = 3 }", "retires"),
    ("return { handle = function() end, timeout_ms = '40m' }", "timeout_ms"),
    ("while true do end", "does not come to an end"),
])
def test_a_wrong_file_leaves_the_old_one_serving(site, wrong, reason):
    path = note(site, "re.load", "one")
    worker = site.worker()
    good = path.read_text()
    before = version_of(worker, "re.load")
    path.write_text(wrong)
    wait_reload(worker, "re.load", "failed")
    assert noted(site, "re.load", "one")
    assert version_of(worker, "re.load") == before
    path.touch()
    worker.signal(signal.SIGHUP)
    worker.wait_log("comparing the handlers")
    note(site, "another", "x")
    worker.wait_log("handler added", handler="another")
    records = worker.log.records("cannot be used")
    assert len(records) == 1, "once for each content"
    assert reason in records[0]["reason"] and records[0]["file"] == str(path)
    assert records[0]["level"] == "error" and {records[0]["version"]} == before
    path.write_text(good.replace("'one'", "'two'"))
    wait_reload(worker, "re.load")
    assert noted(site, "re.load", "two")


def test_a_new_file_is_consumed(site):
    note(site, "re.load", "one")
    worker = site.worker()
    note(site, "brand.new", "new")
    wait_reload(worker, "brand.new", "added")
    wait("its consumer", lambda: site.broker.consumers(site.queue("brand.new")) == 1)
    assert noted(site, "brand.new", "new")
    worker.wait_ready()
    wait("its depth", lambda: worker.metric("leveret_consumers",
                                            queue=site.queue("brand.new")) == 1)
    site.assert_settled(worker)


def test_a_removed_file_is_not_consumed_any_more(site):
    note(site, "stays", "x")
    path = site.handler("re.load", "ctx.redis.incr('%s:began') ctx.sleep(3000) "
                                   "mark(event, ctx)" % site.prefix, concurrency=1)
    worker = site.worker()
    first = site.publish("re.load")
    wait("one that runs", lambda: site.redis.get(site.prefix + ":began") == "1")
    for _ in range(3):
        site.publish("re.load")
    path.unlink()
    wait_reload(worker, "re.load", "removed")
    queue = site.queue("re.load")
    wait("no consumer", lambda: site.broker.consumers(queue) == 0)
    wait("what had not begun, back in the queue", lambda: site.broker.depth(queue) == 3)
    assert site.wait_marks(1)[0]["id"] == first
    site.publish("re.load")
    wait("the queue, still bound", lambda: site.broker.depth(queue) == 4)
    worker.wait_idle()
    assert site.broker.depth(queue) == 4, "the one that ran was acked"
    assert version_of(worker, "re.load") == set()
    assert worker.ready()
    path.write_text("return function() end")
    site.queues.add("re.load.queue")
    site.redis.delete(site.prefix + ":began")
    worker.stop()
    site.broker.drain(queue)


def test_the_last_file_goes_and_comes_back(site):
    path = note(site, "re.load", "one")
    worker = site.worker()
    text = path.read_text()
    path.unlink()
    wait_reload(worker, "re.load", "removed")
    assert worker.get("/livez")[0] == 200
    assert worker.get("/readyz") == (503, "there is no handler\n")
    path.write_text(text.replace("'one'", "'two'"))
    worker.wait_ready()
    assert noted(site, "re.load", "two")


def test_a_file_that_is_away_for_a_moment_is_not_removed(site):
    path = note(site, "re.load", "one")
    worker = site.worker()
    text = path.read_text()
    path.unlink()
    time.sleep(0.4)
    path.write_text(text.replace("'one'", "'two'"))
    wait_reload(worker, "re.load")
    time.sleep(1.2)
    assert reloads(worker, "re.load", "removed") == 0


def test_a_renamed_file_is_another_handler(site):
    path = note(site, "re.load", "one", events=["re.load"])
    worker = site.worker()
    path.rename(path.with_name("renamed.lua"))
    worker.wait_log("handler reloaded", handler="renamed")
    assert noted(site, "re.load", "one")
    assert version_of(worker, "re.load") == set() and version_of(worker, "renamed")
    assert not worker.log.records("cannot be used")


def test_a_folder_that_goes_keeps_its_handlers(site):
    path = note(site, "re.load", "one")
    worker = site.worker()
    text = path.read_text()
    shutil.rmtree(site.handlers)
    worker.wait_log("folder of handlers cannot be read")
    time.sleep(1.5)
    assert noted(site, "re.load", "one")
    site.handlers.mkdir()
    path.write_text(text.replace("'one'", "'two'"))
    wait_reload(worker, "re.load")
    assert noted(site, "re.load", "two")
    path.write_text(text.replace("'one'", "'three'"))  # it is watched again
    wait_reload(worker, "re.load", count=2)
    assert noted(site, "re.load", "three")


def test_a_config_map_is_swapped(site):
    """As the kubelet does: ..data is a link to the content, and every file a link through it."""
    path = note(site, "re.load", "one")
    text = path.read_text()
    path.unlink()

    def publish(number, content):
        folder = site.handlers / f"..2026_{number}"
        folder.mkdir()
        (folder / "re.load.lua").write_text(content)
        temporary = site.handlers / "..data_tmp"
        temporary.symlink_to(folder.name)
        os.replace(temporary, site.handlers / "..data")

    publish(1, text)
    path.symlink_to("..data/re.load.lua")
    worker = site.worker()
    assert noted(site, "re.load", "one")
    publish(2, text.replace("'one'", "'two'"))
    shutil.rmtree(site.handlers / "..2026_1")
    wait_reload(worker, "re.load")
    assert noted(site, "re.load", "two")


def test_links_are_followed(site):
    """A folder that is a link to a release, and a file that is a link out of the folder."""
    path = note(site, "re.load", "one")
    text = path.read_text()
    releases = [site.directory / f"release-{number}" for number in (1, 2)]
    for number, release in enumerate(releases):
        release.mkdir()
        (release / path.name).write_text(text.replace("'one'", f"'release {number}'"))
    shared = site.directory / "shared.text"
    shared.write_text(text.replace("'one'", "'link'"))
    shutil.rmtree(site.handlers)
    site.handlers.symlink_to(releases[0].name)
    worker = site.worker()
    assert noted(site, "re.load", "release 0")
    temporary = site.directory / "next"
    temporary.symlink_to(releases[1].name)
    os.replace(temporary, site.handlers)
    wait_reload(worker, "re.load")
    assert noted(site, "re.load", "release 1")
    (releases[1] / path.name).unlink()
    (releases[1] / path.name).symlink_to(shared)
    wait_reload(worker, "re.load", count=2)
    assert noted(site, "re.load", "link")
    shared.write_text(text.replace("'one'", "'target'"))
    wait_reload(worker, "re.load", count=3)
    assert noted(site, "re.load", "target")


def test_sighup_compares_at_once(site):
    path = note(site, "re.load", "one")
    gone = note(site, "gone", "x")
    worker = site.worker()
    path.write_text(path.read_text().replace("'one'", "'two'"))
    gone.unlink()
    worker.signal(signal.SIGHUP)
    worker.wait_log("handler removed", handler="gone", timeout_s=0.9)
    wait_reload(worker, "re.load")
    assert noted(site, "re.load", "two")
    assert worker.running()


def test_options_of_the_queue_change(site):
    path = note(site, "re.load", "one", prefetch=1, concurrency=1)
    worker = site.worker()
    text = path.read_text()
    path.write_text(text.replace("prefetch = 1,", "prefetch = 7,\n  bind = {'re.load', 're.more'},")
                    .replace("'one'", "'two'"))
    wait_reload(worker, "re.load")
    wait("the new binding", lambda: bound(site, "re.more"))
    assert noted(site, "re.load", "two")
    elsewhere = site.queue("elsewhere")
    site.queues.add(elsewhere)
    path.write_text(text.replace(site.queue("re.load"), elsewhere).replace("'one'", "'three'"))
    wait_reload(worker, "re.load", count=2)
    wait("the new queue's consumer", lambda: site.broker.consumers(elsewhere) == 1)
    wait("the old queue's end", lambda: site.broker.consumers(site.queue("re.load")) == 0)
    site.publish("re.load", queue=elsewhere)
    assert site.wait_marks(2)[1]["note"] == "three"
    worker.wait_ready()


def bound(site, key):
    with contextlib.suppress(Exception):
        site.publish(key)
        return True
    return False


def test_a_declaration_that_rabbitmq_refuses_is_no_end(site):
    path = note(site, "re.load", "one")
    worker = site.worker()
    text = path.read_text()
    path.write_text(text.replace("return {", "return {\n  message_ttl_ms = 100000,")
                    .replace("'one'", "'two'"))
    wait_reload(worker, "re.load")
    worker.wait_log("exists with another value of x-message-ttl", level="error")
    assert noted(site, "re.load", "two"), "its consumer is still there"
    path.write_text(text.replace("'one'", "'three'"))
    wait_reload(worker, "re.load", count=2)
    assert noted(site, "re.load", "three")
    assert worker.running()


def test_two_handlers_for_one_event_do_not_come_to_be(site):
    path = note(site, "re.load", "one")
    worker = site.worker()
    twin = note(site, "twin", "twin", queue=site.queue("re.load"), events=["re.load"])
    wait_reload(worker, "twin", "failed")
    assert "both take the same events" in worker.wait_log("cannot be used")["reason"]
    assert noted(site, "re.load", "one")
    path.unlink()
    worker.wait_log("handler added", handler="twin")
    assert noted(site, "re.load", "twin")


def test_files_that_agree_only_together_change_together(site):
    shared = site.queue("shared")
    one = note(site, "one", "one", queue=shared, events=["x"])
    two = note(site, "two", "two", queue=shared, events=["y"])
    worker = site.worker()
    one_text = one.read_text()
    one.write_text(one_text.replace('"x"', '"y"'))
    two.write_text(two.read_text().replace('"y"', '"x"'))
    wait_reload(worker, "one")
    wait_reload(worker, "two")
    assert noted(site, "x", "two")
    assert noted(site, "y", "one")


def test_removed_from_a_shared_queue(site):
    """Its events are nobody's then, as they would be at a start without it."""
    shared = site.queue("shared")
    path = note(site, "one", "one", queue=shared, events=["x"])
    note(site, "two", "two", queue=shared, events=["y"])
    worker = site.worker()
    path.unlink()
    wait_reload(worker, "one", "removed")
    site.publish("x")
    assert "takes the event type x" in site.dead().header("leveret-error")
    assert noted(site, "y", "two")


# ---- plugins ----

def test_a_plugin_is_replaced_while_it_works(site):
    queue = site.queue("acts")
    path = site.plugin("acts", queue)
    worker = site.worker(plugins={"acts": {"handler": {"queue": queue}}})
    before, = version_of(worker, "acts")
    site.publish("act", {"do": "thread"})
    worker.wait_outcomes("processed", 1)
    good = path.read_bytes()
    files = resources(worker)[0]
    for number in range(1, 21):
        path.write_bytes(good + b"x" * number)  # the same program, another content
        wait_reload(worker, "acts", count=number)
        site.publish("act", {"do": "thread"})
    worker.wait_outcomes("processed", 21)
    after, = version_of(worker, "acts")
    assert after != before
    assert resources(worker)[0] <= files + 2
    path.write_text("return function() end")
    wait_reload(worker, "acts", "failed")
    assert version_of(worker, "acts") == {after}
    site.publish("act", {"do": "thread"})
    worker.wait_outcomes("processed", 22)
    path.unlink()
    wait_reload(worker, "acts", "removed")
    wait("no consumer", lambda: site.broker.consumers(queue) == 0)
    site.assert_settled(worker)


# ---- the soak ----

def resources(worker):
    """(open files, resident KiB) of the worker."""
    pid = worker.process.pid
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        resident = next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))
    return len(os.listdir(f"/proc/{pid}/fd")), resident


class Publisher(threading.Thread):
    """Publishes events at a steady rate until it is told to stop. Its connection is closed when all of
    them have arrived: they are not confirmed."""

    def __init__(self, site, event, rate):
        super().__init__(daemon=True)
        self.site, self.event, self.rate = site, event, rate
        self.count = 0
        self.over = threading.Event()
        self.broker = Broker(site.services.rabbitmq_url)

    def run(self):
        began = time.monotonic()
        body = b'{"event": "%s", "payload": {"n": 1}}' % self.event.encode()
        while not self.over.is_set():
            due = int((time.monotonic() - began) * self.rate)
            while self.count < due:
                self.broker.publish(self.site.exchange, self.event, body, confirm=False,
                                    message_id=f"{self.event}-{self.count}")
                self.count += 1
            time.sleep(0.01)

    def finish(self):
        self.over.set()
        self.join()
        return self.count


class LuaKind:
    """What a reload changes: the text of a Lua file."""
    handler = event = "soak"

    def __init__(self, site):
        self.site = site

    def save(self, number):
        self.site.handler("soak", "ctx.redis.hincrby('%s:runs', event.id, 1) ctx.sleep(2) "
                          "-- version %d" % (self.site.prefix, number))


class PluginKind:
    """The bytes of a plugin: what follows the program's own does not change what it does."""
    handler, event = "counts", "count"

    def __init__(self, site):
        self.path = site.plugin("counts", site.queue("counts"))
        self.good = self.path.read_bytes()

    def save(self, number):
        scratch = self.path.with_suffix(".new")
        scratch.write_bytes(self.good + b"%d" % number)
        scratch.rename(self.path)


@pytest.mark.parametrize("count,rate", [
    pytest.param(100, 1000, id="short"),
    pytest.param(1000, 2000, id="long", marks=pytest.mark.full),
])
@pytest.mark.alone
def test_reloads_under_load_lose_nothing_and_repeat_nothing(site, count, rate):
    """Lua and C in turn, with events for both all the time."""
    kinds = [LuaKind(site), PluginKind(site)]
    runs_key = site.prefix + ":runs"
    kinds[0].save(0)
    # What AddressSanitizer keeps of freed memory would look like growth.
    worker = site.worker(
        log={"level": "info"},
        plugins={"counts": {"key": runs_key, "handler": {"queue": site.queue("counts")}}},
        env={"ASAN_OPTIONS": "quarantine_size_mb=1:thread_local_quarantine_size_kb=16"})
    publishers = [Publisher(site, kind.event, rate // len(kinds)) for kind in kinds]
    for publisher in publishers:
        publisher.start()
    wait("events", lambda: worker.outcomes("processed") > rate)
    before = None
    for number in range(1, count + 1):
        kind = kinds[number % len(kinds)]
        kind.save(number)
        done = number // 2 if kind is kinds[0] else (number + 1) // 2
        wait(f"reload {number}", lambda k=kind, n=done: reloads(worker, k.handler, "ok") >= n)
        if number == count // 4:
            before = resources(worker)
    after = resources(worker)
    total = sum(publisher.finish() for publisher in publishers)
    worker.wait_outcomes("processed", total, timeout_s=120)
    for publisher in publishers:
        publisher.broker.close()
    runs = site.redis.hgetall(runs_key)
    site.redis.delete(runs_key)
    assert len(runs) == total, "every event was handled"
    assert set(runs.values()) == {"1"}, "once"
    assert worker.outcomes("retried") == worker.outcomes("failed") == 0
    assert after[0] <= before[0] + 2, f"open files: {before[0]}, then {after[0]}"
    assert after[1] <= before[1] * 1.25 + 8192, f"KiB resident: {before[1]}, then {after[1]}"
    site.assert_settled(worker)
