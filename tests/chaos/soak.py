#!/usr/bin/python3
"""Events at a steady rate for hours, with a reload a minute: is everything handled once, and does
nothing grow?

    tests/chaos/soak.py [--hours H] [--rate N] [--lanes N] [--seed S] [--services FOLDER]

LEVERET_BIN is the program (default build/asan/leveret; build one as released for this); without
--services it starts servers of its own. Ends with 1 when an event was lost or doubled, or when memory
or open files grew.
"""
import argparse
import collections
import os
import pathlib
import random
import signal
import statistics
import sys
import time
from dataclasses import dataclass

from load import Publisher, dead_letters, private_site
from harness.lua import text
from harness.waiting import wait

EVENT = "soak.test"
PERIOD_S = 60
SETTLE_S = 30  # what is older than that is settled: the retries wait for a second at most
FEWEST = 10  # periods, before growth can be told from warming up
GROWTH, GROWTH_KIB, MORE_FILES = 1.1, 1024, 4
HANDLER = """
  ctx.redis.set(%s, event.id)
  ctx.sleep(event.payload.ms)
  if event.attempt <= (event.payload.fails or 0) then error("asked to fail") end
  if event.payload.reject then ctx.reject("asked to reject") end
  ctx.db.exec("insert into effects (event_id) values ($1)", event.id)
  -- version %d
"""
KINDS = ((85, "quick", {}), (10, "fails", {"fails": 1}), (2, "rejects", {"reject": True}),
         (3, "twice", {}))


@dataclass
class Period:
    """What was seen at its end."""
    settled: int
    p99_ms: float  # from before the publish until the effect was written
    resident_kib: list  # of the supervisor and each lane
    files: int


class Account:
    """What became of the events; those that are settled are forgotten."""

    def __init__(self, site, publisher):
        self.site = site
        self.publisher = publisher
        self.wrong = collections.Counter()
        self.settled = 0
        self.letters = collections.Counter()

    def settle(self, until):
        """Checks what was published before, and forgets it. Returns the 99th percentile."""
        events = {event_id: event for event_id, event in self.publisher.confirmed().items()
                  if event.began < until}
        effects = collections.defaultdict(list)
        for event_id, at in self.site.rows("delete from effects where event_id = any(%s)"
                                           " returning event_id, extract(epoch from at)::float8",
                                           list(events)):
            effects[event_id].append(at)
        self.letters.update(letter.properties.message_id for letter in dead_letters(self.site))
        waits_ms = []
        for event_id, event in events.items():
            want = (0, 1) if event.kind == "rejects" else (1, 0)
            found = (len(effects[event_id]), self.letters.pop(event_id, 0))
            self.wrong["lost"] += sum(found) == 0
            self.wrong["doubled"] += max(0, sum(found) - 1)
            self.wrong["handled otherwise than asked"] += sum(found) == 1 and found != want
            if event.kind == "quick" and effects[event_id]:
                waits_ms.append((effects[event_id][0] - event.began) * 1000)
            del self.publisher.events[event_id]
        self.settled += len(events)
        return sorted(waits_ms)[len(waits_ms) * 99 // 100] if waits_ms else 0

    def close(self):
        """Behind everything: what is there now came twice."""
        self.settle(time.time())
        self.wrong["doubled, and late"] += sum(self.letters.values()) + \
            self.site.rows("select count(*) from effects")[0][0]
        return self.site.rows("select count(*) from processed_events")[0][0]


def save_handler(site, version):
    site.handler(EVENT, HANDLER % (text(site.marks_key), version), events=[EVENT], concurrency=20,
                 retry={"max": 3, "base_ms": 250, "cap_ms": 1000})


def start(site, options):
    site.rows("create table effects (event_id text, at timestamptz default clock_timestamp())")
    save_handler(site, 0)
    worker = site.worker(ready=False, lanes=options.lanes, log={"level": "error"},
                         state_dir=str(site.directory / "state"))
    wait("its consumers", lambda: site.broker.consumers(site.queue(EVENT)) == options.lanes)
    publisher = Publisher(site, EVENT, options.seed, options.rate, KINDS)
    publisher.start()
    return worker, Account(site, publisher)


def look(worker, account):
    """At the end of a period."""
    p99_ms = account.settle(time.time() - SETTLE_S)
    pids = [worker.process.pid, *worker.lanes()]
    return Period(account.settled, p99_ms, [resident_kib(pid) for pid in pids],
                  sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids))


def finish(site, worker, account):
    account.publisher.stop()
    wait("an empty queue", lambda: site.broker.depth(site.queue(EVENT)) == 0)
    time.sleep(SETTLE_S)
    recorded = account.close()
    account.wrong["deaths of lanes"] += len(worker.log.records("a lane died"))
    worker.stop()
    return recorded


def resident_kib(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))


def grown(periods):
    """What is larger in the last quarter than in the second one, in words."""
    if len(periods) < FEWEST:
        return []
    quarter = len(periods) // 4
    early, late = periods[quarter:2 * quarter], periods[-quarter:]
    found = []
    for number, name in enumerate(["the supervisor"] + [f"lane {lane}" for lane in range(
            1, len(periods[0].resident_kib))]):
        was, now = (statistics.median(period.resident_kib[number] for period in part)
                    for part in (early, late))
        print(f"{name}: {was:.0f} KiB resident in the second quarter, {now:.0f} in the last")
        if now > was * GROWTH + GROWTH_KIB:
            found.append(f"{name} grew")
    was, now = (statistics.median(period.files for period in part) for part in (early, late))
    print(f"open files: {was:.0f}, {now:.0f}")
    if now > was + MORE_FILES:
        found.append("open files grew")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0].replace("\n", " "))
    parser.add_argument("--hours", type=float, default=72)
    parser.add_argument("--rate", type=float, default=20, help="events per second")
    parser.add_argument("--lanes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--services", type=pathlib.Path,
                        help="the folder of servers that tests/services.sh has started already")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    periods = []
    with private_site(options.services) as site:
        worker, account = start(site, options)
        for number in range(1, max(1, round(options.hours * 3600 / PERIOD_S)) + 1):
            time.sleep(PERIOD_S)
            seen = look(worker, account)
            print(f"{number * PERIOD_S / 3600:7.2f} h  {seen.settled} settled, p99 {seen.p99_ms:.0f} ms, "
                  f"KiB resident {' + '.join(map(str, seen.resident_kib))}, {seen.files} open files",
                  flush=True)
            periods.append(seen)
            save_handler(site, number)
        recorded = finish(site, worker, account)
    print(f"{account.settled} events settled, {recorded} recorded, {len(periods)} reloads")
    wrong = [f"{count} {what}" for what, count in account.wrong.items() if count] + grown(periods)
    print(f"seed {options.seed}: {', '.join(wrong) if wrong else 'all is as it must be'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
