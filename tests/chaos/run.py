#!/usr/bin/python3
"""Real servers, a publisher, a worker, and faults by a seed; at the end what became of every event.
Ends with 1 when anything was lost, doubled in the database, or changed. See README.md beside this.

LEVERET_BIN is the program; run.sh builds one as released.
"""
import argparse
import contextlib
import os
import pathlib
import random
import signal
import sys
import time

from load import Publisher, private_site
from harness.lua import text
from harness.proxy import Proxy, through
from harness.services import LADDER, NAMES
from harness.waiting import wait
from harness.web import Web

from account import Account, merged
from faults import CRASHES, FAULTS, SHORT, Clock, Scene, has_compiler, small_disk, why_not

LANES, CONCURRENCY = 2, 20
RATE = 100  # events per second
EVENT = "chaos.test"
# A broker that starts may forget to confirm what one of its queues hands another; it asks again after
# three minutes (dead_letter_worker_publisher_confirm_timeout).
SETTLE_S = 240
HANDLER = """
  ctx.http.request{url = %s .. "/" .. event.attempt .. "/" .. event.id}
  if event.payload.redis then ctx.redis.incr(%s) end
  ctx.sleep(event.payload.ms)
  if event.attempt <= (event.payload.fails or 0) then error("asked to fail") end
  if event.payload.reject then ctx.reject("asked to reject") end
  ctx.db.exec("insert into effects (event_id) values ($1)", event.id)
"""
KINDS = ((70, "quick", {}), (10, "slow", {"ms": 700}), (10, "redis", {"redis": True}),
         (5, "fails", {"fails": 1}), (2, "rejects", {"reject": True}), (3, "twice", {}))


def start_worker(site, proxies, clock, web):
    site.handler(EVENT, HANDLER % (text(web.url), text(site.marks_key)), events=[EVENT],
                 concurrency=CONCURRENCY, prefetch=4 * CONCURRENCY,
                 retry={"max": 3, "base_ms": 250})
    worker = site.worker(
        ready=False, env=clock.environment() if clock else None, lanes=LANES, log={"level": "info"},
        state_dir=str(site.directory / "state"),
        rabbitmq={"url": through(site.services.rabbitmq_url, proxies["rabbitmq"])},
        postgres={"url": through(site.database_url, proxies["postgres"])},
        redis={"url": through(site.services.redis_url, proxies["redis"])})
    wait("its consumers", lambda: site.broker.consumers(site.queue(EVENT)) == LANES)
    return worker


def put_right(scene):
    scene.services.start_all()
    for proxy in scene.proxies.values():
        proxy.mend()


def one_fault(scene, account, name):
    wait("every lane to consume", lambda: scene.site.broker.consumers(
        scene.site.queue(EVENT)) >= LANES, SETTLE_S)
    its = account.open(name)
    scene.strikes = its.strikes
    its.ended = FAULTS[name](scene) or time.time()
    if wait_for(f"recovery from {name}", lambda: account.handled_after(its.ended)):
        its.recovery_s = account.handled_after(its.ended) - its.ended
        its.back_s = account.first_after(its.ended) - its.ended
    if wait_for(f"all from before the end of {name}", lambda: account.settled_before(its.ended)):
        its.settled_s = time.time() - its.ended
    for proxy in scene.proxies.values():
        proxy.mend()


def wait_for(what, condition):
    try:
        return wait(what, condition, SETTLE_S)
    except AssertionError as error:
        print(f"  {error}", flush=True)
        return False


def schedule(names, chance, until):
    """Each of them in turns of random order, until the time is over, and each once at least."""
    first = True
    while first or time.monotonic() < until:
        for name in chance.sample(names, len(names)):
            if not first and time.monotonic() >= until:
                return
            yield name
        first = False


def run(site, scene, account, names, minutes):
    began = time.monotonic()
    account.open("none: the beginning")
    wait("the first events", lambda: account.handled_after(0))
    for name in schedule(names, scene.chance, began + minutes * 60):
        one_fault(scene, account, name)
        its = account.rounds[-1]
        print(f"{time.monotonic() - began:6.0f} s  {name:22} handled again after "
              f"{seconds(its.back_s)}, new events after {seconds(its.recovery_s)}, all from before "
              f"after {seconds(its.settled_s)}", flush=True)
    account.publisher.stop()
    wait_for("everything to be settled", lambda: account.settled_before(time.time()))
    died = len(scene.worker.log.records("a lane died"))
    scene.worker.stop()
    account.look()
    account.balance()
    return max(0, died - scene.lane_kills)  # one may be killed again before it is buried


def seconds(value):
    return "   -  " if value is None else f"{value:4.1f} s"


COLUMNS = (("times", "times"), ("published", "published"), ("recorded", "recorded"),
           ("dead", "dead-lettered"), ("lost", "lost"), ("doubled", "doubled in db"),
           ("outside", "doubled outside"), ("running", "were running"),
           ("attempts", "attempts spent"), ("twice", "letters too many"))


def table(rounds):
    rows = merged(rounds)
    print(f"\n{'fault':22}", *(title for _, title in COLUMNS), "at work", "new ones", "settled", sep=" | ")
    for row in rows:
        values = [f"{getattr(row, name):>{len(title)}}" for name, title in COLUMNS]
        print(f"{row.fault:22}", *values, f"{seconds(row.back_s):>7}",
              f"{seconds(row.recovery_s):>8}",
              f"{seconds(row.settled_s):>7}", sep=" | ")
    return rows


def verdict(rows, died, seed):
    """What must not be, in words."""
    wrong = [f"{total} {what}" for name, what in (
        ("lost", "lost"), ("doubled", "doubled in the database"),
        ("without_effect", "recorded without their effect"),
        ("without_record", "effects without a record"),
        ("changed", "dead letters with another body"),
        ("unasked", "dead letters that nobody asked for"))
        if (total := sum(getattr(row, name) for row in rows))]
    wrong += [f"{total} {what} by {row.fault}" for row in rows if row.fault not in CRASHES
              for name, what in (("attempts", "attempts spent"),
                                 ("crashed", "dead letters of crashes"))
              if (total := getattr(row, name))]
    wrong += [f"nothing was handled after {row.fault}" for row in rows
              if row.recovery_s is None and not row.fault.startswith("none")]
    if died:
        wrong.append(f"{died} deaths of lanes that nobody killed")
    print(f"\nseed {seed}: {', '.join(wrong) if wrong else 'all is as it must be'}")
    return 1 if wrong else 0


@contextlib.contextmanager
def everything(options):
    """The scene and the account, with the worker at work."""
    disk = {}

    @contextlib.contextmanager
    def prepare(folder):
        with small_disk(folder):
            if os.path.ismount(folder / "postgres"):
                disk["folder"] = folder / "postgres"
            yield

    with private_site(options.services, prepare) as site, contextlib.ExitStack() as stack:
        web = stack.enter_context(contextlib.closing(Web()))
        proxies = {name: stack.enter_context(contextlib.closing(Proxy(site.services.port(name))))
                   for name in NAMES}
        publisher = Publisher(site, EVENT, options.seed, RATE, KINDS)
        account = Account(site, web, publisher)
        scene = Scene(site, proxies, account, random.Random(options.seed), options.short)
        scene.small_disk = disk.get("folder")
        if "clock-jumps" in options.names and has_compiler():  # sanitizers preload nothing
            scene.clock = Clock(site.directory)
        scene.worker = start_worker(site, proxies, scene.clock, web)
        site.services.wait_for_directory(*site.queues, site.dead_letter, *LADDER)
        publisher.start()
        try:
            yield site, scene, account
        finally:
            put_right(scene)
            site.stop_workers()
            if options.log:
                options.log.write_text(scene.worker.log.text())


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--minutes", type=float, default=10, help="faults go on for so long")
    parser.add_argument("--faults", help="only these, with commas between: " + ", ".join(FAULTS))
    parser.add_argument("--short", action="store_true", help="few faults, once and briefly each")
    parser.add_argument("--services", type=pathlib.Path,
                        help="the folder of servers that tests/services.sh has started already")
    parser.add_argument("--log", type=pathlib.Path, help="where the worker's log is kept")
    options = parser.parse_args()
    options.names = options.faults.split(",") if options.faults else list(
        SHORT if options.short else FAULTS)
    unknown = set(options.names) - set(FAULTS)
    if unknown:
        parser.error(f"no such fault: {', '.join(unknown)}")
    if options.short:
        options.minutes = 0
    return options


def main():
    options = parse()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    print(f"seed {options.seed}", flush=True)
    with everything(options) as (site, scene, account):
        names = []
        for name in options.names:
            reason = why_not(scene, name)
            if reason:
                print(f"skipped: {name}: {reason}")
            else:
                names.append(name)
        died = run(site, scene, account, names, options.minutes)
        return verdict(table(account.rounds), died, options.seed)


if __name__ == "__main__":
    sys.exit(main())
