#!/usr/bin/python3
"""Kills lanes at random, under load, and counts what became of every event.

    tests/chaos/kills.py [--kills N] [--lanes N] [--seed S] [--every SECONDS] [--services FOLDER]

LEVERET_BIN is the program (default build/asan/leveret); without --services it starts servers of its
own. Ends with 1 when anything was lost or doubled that must not be.
"""
import argparse
import collections
import json
import os
import pathlib
import random
import sys
import tempfile
import threading
import time
from signal import SIGKILL

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))

from harness.broker import Broker  # noqa: E402
from harness.services import Services  # noqa: E402
from harness.site import Site  # noqa: E402
from harness.waiting import wait  # noqa: E402

LANES = 2
CONCURRENCY = 20
RATE = 150  # events per second
EVENT = "kill.test"
HANDLER = """
  ctx.redis.hincrby(%s, event.id, 1)
  ctx.sleep(event.payload.ms)
  ctx.db.exec("insert into effects (event_id) values ($1)", event.id)
"""


class Publisher(threading.Thread):
    """Publishes until told to stop; remembers what the broker has confirmed."""

    def __init__(self, site, seed):
        super().__init__()
        self.site = site
        self.random = random.Random(seed)
        self.broker = Broker(site.services.rabbitmq_url)
        self.stopping = threading.Event()
        self.confirmed = set()

    def run(self):
        began, count = time.monotonic(), 0
        while not self.stopping.is_set():
            event_id = f"{self.random.getrandbits(64):016x}"
            body = json.dumps({"event": EVENT, "payload": {"ms": self.random.randint(1, 40)}})
            self.broker.publish(self.site.exchange, EVENT, body, message_id=event_id)
            self.confirmed.add(event_id)
            count += 1
            time.sleep(max(0, began + count / RATE - time.monotonic()))
        self.broker.close()


def kill_lanes(worker, kills, seed, every_s, progress):
    """Returns how many handlers were running in the lanes at the kills, as their supervisor saw."""
    chance = random.Random(seed)
    done = 0
    while done < kills:
        time.sleep(chance.uniform(0, 2 * every_s))
        lanes = worker.lanes()
        if not lanes:
            continue
        try:
            os.kill(chance.choice(lanes), SIGKILL)
        except ProcessLookupError:
            continue
        done += 1
        progress(done)


def dead_letters(site):
    letters = {}
    while letter := site.broker.get(site.dead_letter):
        letters[letter.properties.message_id] = letter.header("leveret-error")
    return letters


def longest_return_ms(worker):
    """From a lane's death to its successor's being at work."""
    longest, died = 0, {}
    for record in worker.log.records():
        at = time.mktime(time.strptime(record["time"][:19], "%Y-%m-%dT%H:%M:%S")) * 1000 + \
            int(record["time"][20:23])
        if record["text"].startswith("a lane died"):
            died[record["lane"]] = at  # and not an earlier one, of a lane that died again
        elif record["text"] == "ready: consuming" and record.get("lane") in died:
            longest = max(longest, at - died.pop(record["lane"]))
    return longest


def run(site, kills, seed, every_s=0.3, lanes=LANES, progress=lambda done: None):
    """The ledger of a run: what was published, and what became of it."""
    effects_key = json.dumps(site.prefix + ":effects")
    site.rows("create table effects (event_id text)")
    site.handler(EVENT, HANDLER % effects_key, events=[EVENT], concurrency=CONCURRENCY,
                 prefetch=4 * CONCURRENCY)
    worker = site.worker(lanes=lanes, state_dir=str(site.directory / "state"),
                         log={"level": "info"})
    publisher = Publisher(site, seed)
    publisher.start()
    try:
        kill_lanes(worker, kills, seed + 1, every_s, progress)
    finally:
        publisher.stopping.set()
        publisher.join()
    queue = site.queue(EVENT)
    letters = {}

    def all_settled():
        letters.update(dead_letters(site))
        recorded = {row[2] for row in site.ledger()}
        return site.broker.depth(queue) == 0 and publisher.confirmed <= recorded | set(letters)

    try:
        wait("every event to be recorded or dead-lettered", all_settled, 60 + kills * 0.1)
    except AssertionError:
        pass  # the ledger tells
    worker.stop()
    letters.update(dead_letters(site))
    recorded = {row[2] for row in site.ledger()}
    in_database = collections.Counter(row[0] for row in site.rows("select event_id from effects"))
    outside = {key: int(count)
               for key, count in site.redis.hgetall(site.prefix + ":effects").items()}
    site.redis.delete(site.prefix + ":effects")
    in_flight = sum(record["in_flight"] for record in worker.log.records("a lane died"))
    return {
        "kills": kills,
        "published": len(publisher.confirmed),
        "recorded": len(recorded),
        "dead-lettered": len(letters),
        "lost": len(publisher.confirmed - recorded - set(letters)),
        "doubled in the database": sum(count - 1 for count in in_database.values()),
        "recorded without their effect": len(recorded - set(in_database)),
        "under way at the kills": in_flight,
        "doubled outside": sum(count - 1 for count in outside.values()),
        "longest return of a lane, ms": int(longest_return_ms(worker)),
    }


def faults(ledger):
    """What must not be, in words."""
    found = [name for name in ("lost", "doubled in the database", "recorded without their effect")
             if ledger[name] > 0]
    if ledger["doubled outside"] > ledger["under way at the kills"]:
        found.append("more doubled outside than was under way at the kills")
    return found


def make_site(services, directory):
    import redis
    broker = Broker(services.rabbitmq_url)
    site = Site(services, broker, redis.Redis.from_url(services.redis_url, decode_responses=True),
                None, pathlib.Path(directory))
    site.admin_sql(f'create database "{site.database_name}"')
    site.migrate()
    return site


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=3000)
    parser.add_argument("--lanes", type=int, default=LANES)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=float, default=0.3)
    parser.add_argument("--services")
    options = parser.parse_args()

    def progress(done):
        if done % 100 == 0 or done == options.kills:
            print(f"{done} of {options.kills} kills", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="leveret-kills-") as directory:
        os.chmod(directory, 0o755)
        folder = pathlib.Path(directory) / "site"
        folder.mkdir()
        services = Services(options.services or directory)
        if not options.services:
            services.run("start")
        try:
            site = make_site(services.load(), folder)
            ledger = run(site, options.kills, options.seed, options.every, options.lanes,
                         progress)
            site.close()
        finally:
            if not options.services:
                services.run("stop")
    for name, value in ledger.items():
        print(f"{name:32} {value}")
    wrong = faults(ledger)
    print(f"seed {options.seed}: {', '.join(wrong) if wrong else 'all is as it must be'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
