"""The whole worker against real servers, while one of its calls fails: a sample of its allocations
and system calls, one in each run. Whatever a library or the worker makes of it, no event is lost:
a worker that ended is started again, as its supervisor does. And its supervisor, whose own calls
all fail with --full: it goes on, or ends with an error, an exit code and no lane left.

LEVERET_TORTURE   a build folder without sanitizers, with the program and libfailing.so"""
import os
import pathlib
import random
import re
import signal
import subprocess

import pytest

from harness import supervised
from harness.waiting import wait
from harness.worker import OK, Worker

FOLDER = os.environ.get("LEVERET_TORTURE")
SAMPLES, SAMPLES_FULL = 1, 300
SUPERVISOR_SAMPLES = {"memory": 2, "system": 3}
EVENTS = 20
ABORTED = 86
# It may end with an error, or because a library gave up; never by a crash of its own.
ENDS = {OK, 1, 69, 70, 78, ABORTED}
FRAME = re.compile(r"^(/\S+)\(.*\)\[0x", re.MULTILINE)

pytestmark = pytest.mark.skipif(not FOLDER, reason="needs a build without sanitizers")

HANDLER = """\
  mark(event, ctx)
  ctx.db.exec("insert into runs (event_id, type) values ($1, $2)", event.id, event.type)
  if event.payload.fails and event.attempt == 1 then error("once") end
  if event.payload.rejected then ctx.reject("never") end
  ctx.cache.invalidate("torture:*")
"""


class Tortured(Worker):
    def launch(self, kind, nth):
        self.directory.mkdir(exist_ok=True)
        env = {"PATH": os.environ["PATH"], "LD_PRELOAD": str(pathlib.Path(FOLDER, "libfailing.so")),
               "TORTURE_FAIL": f"{kind}:{nth}",
               "TORTURE_REPORT": str(self.directory / "report")}
        with open(self.directory / "stdout", "ab") as out, \
                open(self.directory / "stderr", "ab") as err:
            self.process = subprocess.Popen(
                [pathlib.Path(FOLDER, "leveret"), "run", "--no-supervisor", "-c", self.config_path],
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=self.directory, env=env,
                start_new_session=True)

    def end(self):
        if self.running():
            self.process.terminate()
        try:
            code = self.wait(30)
        finally:
            self.process.kill()
        return code

    def report(self):
        return (self.directory / "report").read_text().split(maxsplit=3)


def publish_all(site):
    """What must be recorded, and what must be dead."""
    recorded, dead = set(), set()
    for number in range(EVENTS):
        rejected = number % 10 == 9
        payload = {"fails": number % 4 == 1, "rejected": rejected}
        (dead if rejected else recorded).add(site.publish("torture.event", payload))
    return recorded, dead


def settled(site, recorded, found):
    found.update(message.properties.message_id for message in site.broker.drain(site.dead_letter))
    return recorded <= {row[2] for row in site.ledger()}


def is_fair(code, text):
    """Some libraries crash where they find no memory (libgssapi_krb5 1.20, below libpq, does)."""
    if code != -signal.SIGSEGV:
        return code in ENDS
    frames = [pathlib.Path(path).name for path in FRAME.findall(text.partition("crashed after")[2])]
    own = [name for name in frames if not name.startswith(("libc.", "libfailing."))]
    return bool(own) and own[0] != "leveret"


def run_until_settled(site, kind, nth, name):
    """One failing call; then, when the worker ended, one that nothing disturbs."""
    recorded, dead = publish_all(site)
    found = set()
    path = site.write_config(shutdown_timeout_ms=2000, timeout_ms=5000,
                             log={"level": "warn", "format": "json"})
    for turn, order in enumerate(((kind, nth), (kind, 0))):
        worker = Tortured(site.directory / f"torture-{name}-{turn}", path)
        worker.launch(*order)
        try:
            wait("every event to be settled, or the worker's end", lambda: (
                settled(site, recorded, found) and dead <= found) or not worker.running(), 60)
        except AssertionError as error:
            raise AssertionError(f"after {kind}:{nth}: {error}") from None
        finally:
            code = worker.end()
        text = worker.log.text()
        assert is_fair(code, text), f"{order}: ended with {code}: {text[-2000:]}"
        if settled(site, recorded, found) and dead <= found:
            break
    assert settled(site, recorded, found) and dead <= found, f"lost after {kind}:{nth}: {text}"
    assert len(site.runs()) == len(set(site.runs())), f"twice in the database after {kind}:{nth}"
    assert site.broker.depth(site.queue("torture.event")) == 0
    return worker


@pytest.mark.parametrize("kind", ["memory", "system"])
def test_a_call_that_fails(site, request, kind):
    site.handler("torture.event", HANDLER, retry={"max": 3, "base_ms": 250})
    site.worker().stop()  # which has declared the queue
    counts = run_until_settled(site, kind, 0, "none").report()
    total = int(counts[kind == "system"])
    assert total > 500
    full = request.config.getoption("--full")
    seed = int(os.environ.get("TORTURE_SEED", random.randrange(1 << 30) if full else 1))
    print(f"TORTURE_SEED={seed}")
    chosen = random.Random(seed)
    samples = SAMPLES_FULL if full else SAMPLES
    given = os.environ.get("TORTURE_NTH")
    for nth in [int(given)] if given else sorted(chosen.sample(range(1, total), samples)):
        run_until_settled(site, kind, nth, f"{kind}-{nth}")


@pytest.mark.parametrize("kind", SUPERVISOR_SAMPLES)
def test_a_call_of_the_supervisor_that_fails(site, request, kind):
    site.handler("torture.event", "  mark(event, ctx)")
    site.plugin("crashes", site.queue("crash"))
    usual = supervised.torture(site, kind, 0, None)
    total, left = int(usual[kind == "system"]), int(usual[2])
    numbers = range(1, total + 1)
    if not request.config.getoption("--full"):
        chosen = random.Random(int(os.environ.get("TORTURE_SEED", 1)))
        numbers = sorted(chosen.sample(numbers, SUPERVISOR_SAMPLES[kind]))
    if os.environ.get("TORTURE_NTH"):
        numbers = map(int, os.environ["TORTURE_NTH"].split(","))
    wrong = []
    for nth in numbers:
        try:
            print(kind, nth, *supervised.torture(site, kind, nth, left) or ())
        except AssertionError as error:
            wrong.append(str(error))
    assert not wrong, "\n".join(wrong)
