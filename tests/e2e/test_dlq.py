"""leveret dlq: dead letters are listed by cause, shown, sent back, and discarded; and none is lost
whatever ends the command."""
import json
import os
from signal import SIGINT
import subprocess
import time

import pika
import pytest

from harness.waiting import wait
from harness.worker import (CONFIG, INTERRUPTED, OK, UNAVAILABLE, USAGE, binary, environment,
                            sanitizer_reports)

FAIL_ONCE_FIXED = """
  local ill = ctx.redis.get(event.payload.cause)
  if ill then error(ill .. ' ' .. event.payload.n .. " for 'user" .. event.payload.n .. "'") end
  ctx.db.exec('insert into runs (event_id, type, attempt) values ($1, $2, $3)',
              event.id, event.type, event.attempt)"""


def dlq(site, verb, *arguments, config=None, **options):
    config = config or site.write_config()
    return site.leveret("dlq", verb, "-c", config, *arguments, **options)


def dlq_json(site, verb, *arguments, **options):
    result = dlq(site, verb, *arguments, "--json", **options)
    assert result.returncode == OK, result.stderr
    return json.loads(result.stdout)


def groups(site, *arguments):
    return dlq_json(site, "list", *arguments)["groups"]


def letter(site, number, queue=None, error="boom 1", when=None, **headers):
    """Puts a dead letter as leveret makes them into the dead-letter queue."""
    when = time.gmtime(time.time() - 60 if when is None else when)
    origin = site.queue("job") if queue is None else queue
    values = {"leveret-attempt": 4, "leveret-origin-queue": origin,
              "leveret-origin-exchange": site.exchange, "leveret-origin-routing-key": "job.done",
              "leveret-error": error, "leveret-handler": "job", "own": "kept",
              "leveret-first-failed-at": time.strftime("%Y-%m-%dT%H:%M:%SZ", when), **headers}
    values = {name: value for name, value in values.items() if value is not None}
    site.broker.publish("", site.dead_letter,
                        json.dumps({"event": "job.done", "payload": {"n": number}}),
                        message_id=f"m-{number}", headers=values)


@pytest.fixture
def letters(site):
    """A site with a dead-letter queue and a work queue that nobody consumes."""
    site.handler("job.done", "mark(event, ctx)", queue=site.queue("job"))
    for queue in (site.queue("job"), site.dead_letter):
        site.broker.declare(queue, **{"x-queue-type": "quorum", "x-delivery-limit": 1000000})
    return site


def ids(messages):
    return sorted(message.properties.message_id for message in messages)


def start(site, *arguments):
    return subprocess.Popen([binary(), "dlq", *map(str, arguments)], cwd=site.directory,
                            env=environment(site.directory), stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, start_new_session=True)


# the story

def test_a_thousand_letters_of_three_causes_and_one_is_fixed(site):
    causes = {"smtp:refused": "mail server refused message", "db:locked": "row is locked, try",
              "api:down": "upstream said 503 to"}
    keys = {f"{site.prefix}:{name}": text for name, text in causes.items()}
    for key, text in keys.items():
        site.redis.set(key, text)
    try:
        site.handler("work.do", FAIL_ONCE_FIXED, retry={"max": 1, "base_ms": 250})
        worker = site.worker()
        sent = {key: [] for key in keys}
        for number in range(1000):
            key = list(keys)[number % 3]
            sent[key].append(site.publish("work.do", {"cause": key, "n": number}))
        wait("a thousand dead letters", lambda: site.broker.depth(site.dead_letter) == 1000, 90)

        found = groups(site)
        assert sorted(group["count"] for group in found) == [333, 333, 334]
        assert len({group["fingerprint"] for group in found}) == 3
        assert {group["queue"] for group in found} == {site.queue("work.do")}
        assert {group["event"] for group in found} == {"work.do"}
        shown = dlq(site, "list").stdout
        assert all(group["fingerprint"] in shown for group in found)
        assert "1000 dead letters in 3 groups" in shown
        assert [g["fingerprint"] for g in groups(site)] == [g["fingerprint"] for g in found]

        fixed = f"{site.prefix}:db:locked"
        group = next(g for g in found if keys[fixed] in g["error"])
        site.redis.delete(fixed)
        result = dlq_json(site, "replay", "--fingerprint", group["fingerprint"])
        assert result["replayed"] == len(sent[fixed]) and result["stayed"] == 0
        wait("the replayed", lambda: len(site.runs()) == len(sent[fixed]))
        assert sorted(site.runs("event_id, attempt")) == sorted((i, 1) for i in sent[fixed])
        worker.wait_idle()
        assert sorted(group["count"] for group in groups(site)) == \
            sorted(len(sent[key]) for key in keys if key != fixed)
        left = site.broker.drain(site.dead_letter)
        assert ids(left) == sorted(sum((sent[key] for key in keys if key != fixed), []))
        assert worker.outcomes("duplicate") == 0
    finally:
        site.redis.delete(*keys)


# list and show

def test_list_tells_queues_events_and_ages_and_changes_nothing(letters):
    now = time.time()
    for number in range(6):
        letter(letters, number, when=now - 7200 if number == 0 else now - 60)
    letter(letters, 6, queue="elsewhere", error="bang \"x\"")
    for _ in range(3):
        found = groups(letters)
        assert [group["count"] for group in found] == [6, 1]
    assert found[0]["oldest"] == time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - 7200))
    assert found[0]["dead_letter"] == letters.dead_letter and found[0]["handler"] == "job"
    assert [g["queue"] for g in groups(letters, "--queue", "elsewhere")] == ["elsewhere"]
    assert [g["count"] for g in groups(letters, "--older", "1h")] == [1]
    assert sum(g["count"] for g in groups(letters, "--newer", "1h")) == 6
    assert groups(letters, "--event", "other.*") == []
    text = dlq(letters, "list").stdout
    assert "job.done in " + letters.queue("job") in text and "to 2h ago" in text
    order = [message.properties.message_id for message in letters.broker.drain(letters.dead_letter)]
    assert order == [f"m-{number}" for number in range(7)]


def test_list_of_nothing(site):
    site.handler("job.done", "mark(event, ctx)")
    result = dlq(site, "list")
    assert result.returncode == OK and "0 dead letters" in result.stdout


def test_show_a_letter(letters):
    letter(letters, 1, deep={"a": [1]},
           **{"leveret-trace": "stack traceback:\n\t[C]: in error\n\x1b[2J"})
    letters.broker.publish("", letters.dead_letter, b"\x00\xff binary", message_id="bin")
    letters.broker.publish("", letters.dead_letter, b"x" * 100000, message_id="long")
    text = dlq(letters, "show", "--id", "m-1").stdout
    for part in ("job.done m-1", "boom 1", "    stack traceback:\n    [C]: in error\n", 'deep: {"a":[1]}', letters.queue("job"),
                 '"payload": {"n": 1}', "own: "):
        assert part in text
    assert "\x1b" not in text
    assert "binary" in dlq(letters, "show", "--id", "bin").stdout
    assert "95904 bytes more" in dlq(letters, "show", "--id", "long").stdout
    shown = dlq_json(letters, "show")
    assert [item["properties"]["message_id"] for item in shown] == ["m-1", "bin", "long"]
    assert shown[0]["properties"]["headers"]["own"] == "kept" and shown[0]["attempts"] == 4
    assert shown[1]["body"] is None and shown[1]["body_bytes"] == 9
    raw = subprocess.run([binary(), "dlq", "show", "-c", letters.write_config(), "--raw", "--id",
                          "bin"], env=environment(letters.directory), capture_output=True,
                         cwd=letters.directory, check=True)
    assert raw.stdout == b"\x00\xff binary"
    assert len(dlq_json(letters, "show", "--limit", "1")) == 1
    assert letters.broker.depth(letters.dead_letter) == 3


# replay

def test_a_replayed_letter_is_the_event_again(letters):
    letter(letters, 1, **{"x-retry-count": 3, "leveret-origin-user-id": "guest"})
    assert dlq_json(letters, "replay")["replayed"] == 1
    back = letters.broker.get(letters.queue("job"))
    assert back.body == b'{"event": "job.done", "payload": {"n": 1}}'
    assert back.exchange == "" and back.properties.delivery_mode == 2
    assert back.header("leveret-attempt") == 0 and back.header("own") == "kept"
    assert back.header("leveret-origin-exchange") == letters.exchange
    assert back.header("leveret-origin-routing-key") == "job.done"
    assert back.header("leveret-error") is None and back.header("leveret-first-failed-at") is None
    assert back.header("leveret-origin-user-id") == "guest"
    assert letters.broker.depth(letters.dead_letter) == 0


def test_a_dry_run_changes_nothing(letters):
    for number in range(20):
        letter(letters, number)
    result = dlq_json(letters, "replay", "--dry-run", "--limit", "15")
    assert result["replayed"] == 0 and result["would_replay"]["letters"] == 15
    assert dlq_json(letters, "discard", "--dry-run", "--all")["would_discard"]["letters"] == 20
    assert letters.broker.depth(letters.queue("job")) == 0
    assert ids(letters.broker.drain(letters.dead_letter)) == sorted(f"m-{n}" for n in range(20))


def test_a_limit_and_a_rate(letters):
    for number in range(60):
        letter(letters, number)
    began = time.monotonic()
    assert dlq_json(letters, "replay", "--limit", "21", "--rate", "20/s")["replayed"] == 21
    assert 1.0 <= time.monotonic() - began < 15
    assert letters.broker.depth(letters.queue("job")) == 21
    assert letters.broker.depth(letters.dead_letter) == 39


def test_letters_that_cannot_go_back_stay_and_the_reason_is_told(letters):
    letter(letters, 1, queue=letters.prefix + ".gone")
    letter(letters, 2, queue=letters.prefix + ".gone")
    letters.broker.publish("", letters.dead_letter, b"whatever", message_id="foreign")
    letter(letters, 3, queue=letters.dead_letter)
    letter(letters, 4)
    result = dlq(letters, "replay")
    assert result.returncode == OK and "replayed 1, 4 stay" in result.stdout
    assert f'2 stay in {letters.dead_letter}: there is no queue "{letters.prefix}.gone"' in \
        result.stdout
    assert "nothing says which queue it failed in" in result.stdout
    assert ids(letters.broker.drain(letters.queue("job"))) == ["m-4"]
    assert ids(letters.broker.drain(letters.dead_letter)) == ["foreign", "m-1", "m-2", "m-3"]


def test_what_the_broker_dead_lettered_goes_back_to_the_queue_that_it_died_in(letters):
    work = letters.queue("rejects")
    letters.queues.add(work)
    letters.broker.declare(work, **{
        "x-queue-type": "quorum", "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": letters.dead_letter})
    letters.broker.publish("", work, b'{"event":"big.one"}', message_id="big",
                           headers={"leveret-origin-queue": "forged", "CC": ["nowhere"]})
    channel = letters.broker.channel("ask")
    method = wait("the message", lambda: channel.basic_get(work)[0])
    channel.basic_reject(method.delivery_tag, requeue=False)
    wait("a dead letter", lambda: letters.broker.depth(letters.dead_letter))
    group, = groups(letters)
    assert group["by_broker"] and group["queue"] == work and "rejected" in group["error"]
    assert dlq_json(letters, "replay")["replayed"] == 1
    back = letters.broker.get(work)
    assert back.header("leveret-origin-queue") == work and back.header("x-death") is None
    assert back.header("CC") is None and back.header("leveret-attempt") == 0


def test_a_full_queue_keeps_its_letters(letters):
    full = letters.queue("full")
    letters.queues.add(full)
    letters.broker.declare(full, **{"x-max-length": 1, "x-overflow": "reject-publish"})
    for number in range(5):
        letter(letters, number, queue=full)
    result = dlq_json(letters, "replay")
    assert result["replayed"] >= 1 and result["replayed"] + result["stayed"] == 5
    assert letters.broker.depth(letters.dead_letter) == result["stayed"]


@pytest.mark.parametrize("kind", ["quorum", "classic"])
def test_interrupted_again_and_again_nothing_is_lost(letters, kind):
    if kind == "classic":
        letters.broker.delete(letters.dead_letter)
        letters.broker.declare(letters.dead_letter)
    count = 600
    for number in range(count):
        letter(letters, number)
    config = letters.write_config()
    for turn in range(6):
        process = start(letters, "replay", "-c", config, "--rate", "400")
        wait("some replayed", lambda n=turn: letters.broker.depth(letters.queue("job")) > 60 * n)
        if turn % 2:
            process.kill()
        else:
            process.send_signal(SIGINT)
        out, err = process.communicate(timeout=30)
        if not turn % 2:
            assert process.returncode == INTERRUPTED, err
            assert "replayed" in out
    assert not sanitizer_reports(letters.directory)

    def returned():
        return letters.broker.depth(letters.queue("job")) + \
            letters.broker.depth(letters.dead_letter) >= count

    wait("every letter in its place", returned)
    assert letters.broker.depth(letters.dead_letter) > 0, "it was interrupted, not finished"
    dlq_json(letters, "replay")
    back = ids(letters.broker.drain(letters.queue("job")))
    assert set(back) == {f"m-{number}" for number in range(count)}
    assert len(back) - count <= 3 * 256, "only what was in flight at a kill may be there twice"
    assert letters.broker.depth(letters.dead_letter) == 0


def test_letters_that_come_back_at_once_do_not_make_it_endless(site):
    """The cause is not fixed: a worker dead-letters again what is replayed."""
    site.handler("job.done", "error('boom')", queue=site.queue("job"), retry={"max": 0})
    worker = site.worker()
    for number in range(300):
        letter(site, number)
    assert dlq_json(site, "replay")["replayed"] == 300
    wait("all dead again", lambda: site.broker.depth(site.dead_letter) == 300)
    worker.wait_idle()
    assert ids(site.broker.drain(site.dead_letter)) == sorted(f"m-{n}" for n in range(300))


def test_every_removal_has_reached_the_broker_when_the_command_ends(letters):
    """A channel that is closed forgets acks that a busy quorum queue has not taken yet."""
    for turn in range(5):
        for number in range(400):
            letter(letters, f"{turn}-{number}")
        assert dlq_json(letters, "replay")["replayed"] == 400
        assert letters.broker.depth(letters.dead_letter) == 0
        assert letters.broker.depth(letters.queue("job")) == 400 * (turn + 1)


def test_more_letters_than_one_consumer_is_given(letters):
    """The broker hands letters out in parts, and all are held unacked until the end."""
    channel = letters.broker.channel("plain")
    headers = {"leveret-origin-queue": letters.queue("job"), "leveret-error": "boom"}
    for number in range(7000):
        properties = pika.BasicProperties(message_id=str(number), delivery_mode=2, headers=headers)
        channel.basic_publish("", letters.dead_letter, b'{"event":"job.done"}', properties)
    wait("seven thousand", lambda: letters.broker.depth(letters.dead_letter) == 7000)
    assert [group["count"] for group in groups(letters)] == [7000]
    assert letters.broker.depth(letters.dead_letter) == 7000
    assert dlq_json(letters, "replay", "--id", "6999")["replayed"] == 1
    assert dlq_json(letters, "discard", "--event", "job.*", "--yes")["discarded"] == 6999
    assert letters.broker.depth(letters.dead_letter) == 0


# discard

def test_discard_takes_what_fits_and_nothing_else(letters):
    for number in range(10):
        letter(letters, number, error="boom" if number % 2 else "bang")
    keep = next(g for g in groups(letters) if g["error"] == "bang")
    assert dlq_json(letters, "discard", "--fingerprint", keep["fingerprint"], "--yes",
                    "--limit", "3")["discarded"] == 3
    assert dlq_json(letters, "discard", "--id", "m-1", "--yes")["discarded"] == 1
    assert letters.broker.depth(letters.dead_letter) == 6
    assert dlq_json(letters, "discard", "--all", "--yes")["discarded"] == 6


def test_discard_wants_to_be_told(letters):
    letter(letters, 1)
    assert dlq(letters, "discard", "--yes").returncode == USAGE
    nobody = dlq(letters, "discard", "--all")
    assert nobody.returncode == USAGE and "--yes" in nobody.stderr
    assert letters.broker.depth(letters.dead_letter) == 1


@pytest.mark.parametrize("answer, left", [("n\n", 3), ("y\n", 0)])
def test_discard_asks_on_a_terminal(letters, answer, left):
    for number in range(3):
        letter(letters, number)
    leader, follower = os.openpty()
    process = subprocess.Popen([binary(), "dlq", "discard", "--all", "-c", letters.write_config()],
                               stdin=follower, stdout=follower, stderr=follower,
                               cwd=letters.directory, env=environment(letters.directory))
    os.close(follower)
    text = b""
    while b"[y/N]" not in text:
        text += os.read(leader, 4096)
    assert b"Discard these 3" in text
    os.write(leader, answer.encode())
    assert process.wait(30) == OK
    os.close(leader)
    assert letters.broker.depth(letters.dead_letter) == left


# what is wrong outside

def test_a_queue_that_drops_what_is_handed_out_too_often_is_left_alone(letters):
    letters.broker.delete(letters.dead_letter)
    letters.broker.declare(letters.dead_letter, **{"x-queue-type": "quorum", "x-delivery-limit": 8})
    letter(letters, 1)
    results = [dlq(letters, "list") for _ in range(6)]
    assert results[0].returncode == OK and results[-1].returncode == CONFIG
    assert "drops them after 8" in results[-1].stderr
    assert letters.broker.depth(letters.dead_letter) == 1


@pytest.mark.parametrize("verb", ["list", "show", "replay", "discard"])
def test_the_broker_is_away(letters, closed_port, verb):
    arguments = ["--all", "--yes"] if verb == "discard" else []
    result = dlq(letters, verb, *arguments,
                 env={"RABBITMQ_URL": f"amqp://guest:secret@127.0.0.1:{closed_port}/"})
    assert result.returncode == UNAVAILABLE
    assert "cannot reach RabbitMQ" in result.stderr and "secret" not in result.stderr


@pytest.mark.parametrize("arguments, says", [
    ([], "one of list, show, replay, discard"), (["lsit"], "does not know lsit"),
    (["list", "--rate", "3"], "does not know --rate"), (["replay", "--rate", "0"], "--rate wants"),
    (["replay", "--limit", "-1"], "--limit wants"),
    (["replay", "--older", "soon"], "--older wants"),
    (["show", "--fingerprint", "x"], "--fingerprint wants"), (["show", "--id"], "--id wants"),
    (["list", "--json=yes"], "does not know --json=yes"),
])
def test_a_wrong_command_line(site, arguments, says):
    result = site.leveret("dlq", *arguments)
    assert result.returncode == USAGE and says in result.stderr


def test_a_wrong_configuration(site):
    assert dlq(site, "list", config="/nowhere.lua").returncode == CONFIG


def test_the_broker_is_killed_during_a_replay(letters, services):
    """The command ends with a clear line, and everything is in one place or the other."""
    for number in range(300):
        letter(letters, number)
    services.wait_for_directory(letters.dead_letter, letters.queue("job"))
    process = start(letters, "replay", "-c", letters.write_config(), "--rate", "100")
    wait("some replayed", lambda: letters.broker.depth(letters.queue("job")) > 50)
    services.kill("rabbitmq")
    try:
        _, err = process.communicate(timeout=60)
    finally:
        services.start("rabbitmq")
    assert process.returncode == UNAVAILABLE and "were replayed before" in err
    wait("the queues", lambda: letters.broker.depth(letters.queue("job")) is not None)
    assert dlq_json(letters, "replay")["stayed"] == 0
    back = ids(letters.broker.drain(letters.queue("job")))
    assert set(back) == {f"m-{number}" for number in range(300)}
    assert letters.broker.depth(letters.dead_letter) == 0
