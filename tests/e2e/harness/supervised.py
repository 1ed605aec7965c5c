"""The supervisor of two lanes, while one of its own calls fails. Meanwhile it starts, a lane dies of
an event and comes back, handlers are reloaded, the pages are asked for, and it ends."""
import contextlib
import hashlib
import http.client
import os
import pathlib
import re
import shutil
from signal import SIGHUP, SIGTERM
import socket
import struct
import subprocess

from harness.waiting import wait
from harness.worker import OK, Worker

FOLDER = os.environ.get("LEVERET_TORTURE")
LANES = 2
STEP_S = 20  # far more than any step takes
# Its own errors, and a library that gave up (86).
FAILURES = {69, 70, 78, 86}
# A file of charges that is written anew with the next one: 1,025 more records than charges.
STALE_RECORDS = 1100
RECORD = struct.Struct("<II16sIIiI")
SUM_BYTES = 16
FIRST, LAST = bytes(16), bytes([1] * 16)


def record(kind, key, crashes):
    head = RECORD.pack(0x4C565431, kind, key, 1, crashes, 11, 0)
    return head + hashlib.sha256(head).digest()[:SUM_BYTES]


def check_charges(folder, said):
    """Nothing in it is half-written, and what was charged before still is. All was read, or the log
    says that it was not."""
    standing = set()
    count = 0
    for path in folder.iterdir():
        data = path.read_bytes()
        size = RECORD.size + SUM_BYTES
        assert path.suffix == ".charges", f"{path.name} was left behind"
        assert len(data) % size == 0, f"{path.name} is torn"
        for at in range(0, len(data), size):
            head = data[at:at + RECORD.size]
            assert hashlib.sha256(head).digest()[:SUM_BYTES] == data[at + RECORD.size:at + size]
            standing.add(RECORD.unpack(head)[2])
            count += 1
    assert {FIRST, LAST} <= standing, "a charge of before is lost"
    assert count < STALE_RECORDS or re.search("charges' file cannot|cannot be kept", said), \
        "the charges were not read, and nobody said so"


def group_of(pid):
    """The processes of a group, that have not ended."""
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            state, _, group = (folder / "stat").read_text().rsplit(")", 1)[1].split()[:3]
            if int(group) == pid and state != "Z":
                found.append(int(folder.name))
    return found


class Ended(Exception):
    """By itself."""


class Supervised(Worker):
    """A worker that is preloaded with a failure, and listened to as systemd does."""

    def __init__(self, site, name, kind, nth):
        super().__init__(site.directory / name, site.write_config(
            lanes=LANES, crash_limit=1, shutdown_timeout_ms=2000,
            state_dir=str(site.directory / "state"), plugins={"crashes": {"handler": {
                "queue": site.queue("crash"), "retry": {"max": 3, "base_ms": 1}}}}))
        self.order = f"{kind}:{nth}"
        self.said = []
        self.systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.systemd.bind(f"\0{site.prefix}{name}")
        self.systemd.setblocking(False)
        env = {"PATH": os.environ["PATH"], "LD_PRELOAD": str(pathlib.Path(FOLDER, "libfailing.so")),
               "TORTURE_FAIL": self.order, "TORTURE_SPARES_CHILDREN": "1",
               "TORTURE_REPORT": str(self.directory / "report"),
               "NOTIFY_SOCKET": f"@{site.prefix}{name}"}
        with open(self.directory / "stdout", "ab") as out, \
                open(self.directory / "stderr", "ab") as err:
            self.process = subprocess.Popen(
                [pathlib.Path(FOLDER, "leveret"), "run", "-c", self.config_path],
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=self.directory, env=env,
                start_new_session=True)

    def hear(self, line):
        """Whether it has been said since it was heard last."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.said += self.systemd.recv(4096).decode().split("\n")
        if line not in self.said:
            return False
        del self.said[:self.said.index(line) + 1]
        return True

    def until(self, what, condition):
        def met():
            if not self.running():
                raise Ended
            return condition()
        try:
            return wait(what, met, STEP_S)
        except AssertionError as error:
            raise AssertionError(f"{self.order}: {error}; {self.log.text()[-3000:]}") from None

    def page(self, path):
        """Its text, when it is what it should be. A failure may cost one request."""
        ports = self.listening()
        self.admin_port = ports[0] if ports else None
        with contextlib.suppress(OSError, http.client.HTTPException):
            status, text = self.get(path, STEP_S) if ports else (0, "")
            return text if status == 200 else None
        return None

    def listening(self):
        """Its ports: the log's line that tells it may be the call that failed."""
        result = []
        inodes = set()
        for link in pathlib.Path(f"/proc/{self.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                inodes.add(os.readlink(link))
        for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                result.append(int(fields[1].split(":")[1], 16))
        return result

    def end(self):
        if self.running():
            self.process.send_signal(SIGTERM)
        try:
            code = self.wait(STEP_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{self.order}: does not end; {self.log.text()[-3000:]}") from None
        finally:
            self.process.kill()
            self.systemd.close()
        return code

    def report(self):
        """Allocations, system calls, blocks that are left, and what failed."""
        return (self.directory / "report").read_text().rstrip("\n").split(" ", 3)


def live_through(worker, site, recorded):
    """What happens to every run, in order."""
    worker.until("READY=1", lambda: worker.hear("READY=1"))
    lanes = worker.lanes()
    assert len(lanes) == LANES
    site.publish("crash", {"do": "leave"}, message_id="crash-" + worker.directory.name)
    worker.until("another lane", lambda: set(worker.lanes()) - set(lanes))
    worker.until("both lanes to be ready", lambda: worker.page("/readyz"))
    worker.signal(SIGHUP)
    worker.until("RELOADING=1", lambda: worker.hear("RELOADING=1"))
    worker.until("READY=1", lambda: worker.hear("READY=1"))
    worker.until("the metrics of both lanes", lambda: f"leveret_lanes {LANES}\n" in (
        worker.page("/metrics") or ""))
    recorded.update(site.publish("torture.event", {}) for _ in range(4))
    worker.until("what was published", lambda: settled(site, recorded))


def settled(site, recorded):
    return recorded <= {row[2] for row in site.ledger()}


def run(site, kind, nth, name):
    worker = Supervised(site, name, kind, nth)
    recorded = set()
    ended = False
    try:
        live_through(worker, site, recorded)
    except Ended:
        ended = True
    finally:
        group = group_of(worker.process.pid) if ended else []
        code = worker.end()
    text = worker.log.text()
    if ended:
        assert code in FAILURES, f"{worker.order}: ended with {code}: {text[-3000:]}"
        assert "leveret: " in text or "aborted by" in text, f"{worker.order}: no reason: {text}"
        wait(f"{group}, its lanes, to be gone", lambda: not group_of(worker.process.pid), STEP_S)
    else:
        assert code == OK, f"{worker.order}: ended with {code}: {text[-3000:]}"
        assert not group_of(worker.process.pid), f"{worker.order}: lanes are left"
    return worker, recorded, code


def torture(site, kind, nth, left):
    """One run with a failure; where it ended early, one without, which finds every event."""
    state = site.directory / "state"
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir()
    name = "".join(c if c.isalnum() or c in "-_" else "_" for c in site.prefix)
    (state / f"{name}.charges").write_bytes(
        record(1, FIRST, 1) * STALE_RECORDS + record(1, LAST, 1))
    worker, recorded, code = run(site, kind, nth, f"run-{kind}-{nth}")
    if code == OK:
        check_charges(state, worker.log.text())
    numbers = worker.report() if code != 86 else None
    if code == OK and left is not None:
        assert int(numbers[2]) <= left, f"{worker.order}: {numbers} leaks, {left} usually"
    if code != OK:
        again, more, code = run(site, kind, 0, f"again-{kind}-{nth}")
        assert code == OK and settled(site, recorded | more)
    wait("the dead letters", lambda: site.broker.depth(site.queue("crash")) == 0)
    site.broker.drain(site.dead_letter)
    return numbers
