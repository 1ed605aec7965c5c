#!/usr/bin/python3
"""Kills lanes at random, under load, and counts what became of every event.

    tests/chaos/kills.py [--kills N] [--lanes N] [--seed S] [--every SECONDS] [--services FOLDER]

LEVERET_BIN is the program (default build/asan/leveret); without --services it starts servers of its
own. Ends with 1 when anything was lost or doubled that must not be.
"""
import argparse
import collections
import os
import pathlib
import random
import sys
import time
from signal import SIGKILL

from load import Publisher, dead_letters, is_crash, private_site
from harness.lua import text
from harness.waiting import wait

LANES = 2
CONCURRENCY = 20
RATE = 150  # events per second
EVENT = "kill.test"
HANDLER = """
  ctx.redis.hincrby(%s, event.id, 1)
  ctx.sleep(event.payload.ms)
  ctx.db.exec("insert into effects (event_id) values ($1)", event.id)
"""


def kill_lanes(worker, kills, seed, every_s, progress):
    chance = random.Random(seed)
    done = 0
    while done < kills:
        time.sleep(chance.uniform(0, 2 * every_s))
        lanes = wait("a lane", worker.lanes)
        try:
            os.kill(chance.choice(lanes), SIGKILL)
        except ProcessLookupError:
            continue
        done += 1
        progress(done)


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
    effects_key = site.prefix + ":effects"
    site.rows("create table effects (event_id text)")
    site.handler(EVENT, HANDLER % text(effects_key), events=[EVENT], concurrency=CONCURRENCY,
                 prefetch=4 * CONCURRENCY)
    worker = site.worker(lanes=lanes, state_dir=str(site.directory / "state"),
                         log={"level": "info"})
    publisher = Publisher(site, EVENT, seed, RATE, ((1, "any", {}),))
    publisher.start()
    try:
        kill_lanes(worker, kills, seed + 1, every_s, progress)
    finally:
        publisher.stop()
    published = publisher.confirmed()
    letters = {}

    def all_settled():
        letters.update((letter.properties.message_id, letter) for letter in dead_letters(site))
        recorded = {row[2] for row in site.ledger()}
        return site.broker.depth(site.queue(EVENT)) == 0 and set(published) <= recorded | set(letters)

    try:
        wait("every event to be recorded or dead-lettered", all_settled, 60 + kills * 0.1)
    except AssertionError:
        pass  # the ledger tells
    worker.stop()
    all_settled()
    recorded = {row[2] for row in site.ledger()}
    in_database = collections.Counter(row[0] for row in site.rows("select event_id from effects"))
    outside = {key: int(count) for key, count in site.redis.hgetall(effects_key).items()}
    site.redis.delete(effects_key)
    in_flight = sum(record["in_flight"] for record in worker.log.records("a lane died"))
    return {
        "kills": kills,
        "published": len(published),
        "recorded": len(recorded),
        "dead-lettered": len(letters),
        "lost": len(set(published) - recorded - set(letters)),
        "doubled in the database": sum(count - 1 for count in in_database.values()),
        "recorded without their effect": len(recorded - set(in_database)),
        "effects without a record": len(set(in_database) - recorded),
        "dead letters of no crash": sum(not is_crash(letter) for letter in letters.values()),
        "dead letters with another body": sum(
            letter.body != published[event_id].body.encode() for event_id, letter in letters.items()),
        "under way at the kills": in_flight,
        "doubled outside": sum(count - 1 for count in outside.values()),
        "longest return of a lane, ms": int(longest_return_ms(worker)),
    }


MUST_BE_NONE = ("lost", "doubled in the database", "recorded without their effect",
                "effects without a record", "dead letters of no crash",
                "dead letters with another body")


def faults(ledger):
    """What must not be, in words."""
    found = [name for name in MUST_BE_NONE if ledger[name] > 0]
    if ledger["doubled outside"] > ledger["under way at the kills"]:
        found.append("more doubled outside than was under way at the kills")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=3000)
    parser.add_argument("--lanes", type=int, default=LANES)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=float, default=0.3)
    parser.add_argument("--services", type=pathlib.Path)
    options = parser.parse_args()

    def progress(done):
        if done % 100 == 0 or done == options.kills:
            print(f"{done} of {options.kills} kills", file=sys.stderr, flush=True)

    with private_site(options.services) as site:
        ledger = run(site, options.kills, options.seed, options.every, options.lanes, progress)
    for name, value in ledger.items():
        print(f"{name:32} {value}")
    wrong = faults(ledger)
    print(f"seed {options.seed}: {', '.join(wrong) if wrong else 'all is as it must be'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
