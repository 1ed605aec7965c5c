"""What goes wrong. A fault is a function of the scene: it strikes, holds, and puts things right
again; it may return the moment from which recovery counts, which is its end otherwise."""
import contextlib
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import time

from harness.services import NAMES
from harness.waiting import wait
from harness.worker import children

HERE = pathlib.Path(__file__).resolve().parent
BALLAST_BYTES = 320 << 20  # of PostgreSQL's folder, its first files included
IN_HAND, IN_HAND_MS = 40, 400


class Scene:
    """Where faults strike: the servers, the way to them, and the worker."""

    def __init__(self, site, proxies, account, chance, quick):
        self.site = site
        self.services = site.services
        self.proxies = proxies
        self.account = account
        self.publisher = account.publisher
        self.chance = chance
        self.quick = quick
        self.worker = None
        self.clock = None
        self.small_disk = None
        self.strikes = []
        self.lane_kills = 0

    def strike(self):
        """What is under way at such a moment may have to be done again."""
        self.strikes.append(time.time())

    def hold(self, low_s, high_s):
        time.sleep(low_s if self.quick else self.chance.uniform(low_s, high_s))

    def kill_lane(self):
        lanes = self.worker.lanes()
        if lanes:
            self.strike()
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.chance.choice(lanes), signal.SIGKILL)
                self.lane_kills += 1


def family(pid):
    """A process and all that came of it."""
    return [pid] + [each for child in children(pid) for each in family(child)]


def signal_all(pids, number):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


@contextlib.contextmanager
def stopped(pids):
    signal_all(pids, signal.SIGSTOP)
    try:
        yield
    finally:
        signal_all(pids, signal.SIGCONT)


# servers

def kill_server(*names):
    def fault(scene):
        scene.strike()
        for name in names:
            scene.services.kill(name)
        scene.hold(0.1, 5)
        for name in names:
            scene.services.start(name)
    return fault


def stop_server(name):
    def fault(scene):
        scene.strike()
        with stopped(family(scene.services.pid(name))):
            scene.hold(2, 30)
    return fault


def everything(scene):
    scene.kill_lane()
    kill_server(*NAMES)(scene)


def alarm(kind):
    """RabbitMQ reads from no connection that publishes."""
    def fault(scene):
        with scene.services.alarm(kind):
            scene.strike()
            scene.hold(1, 8)
    return fault


def queue_deleted(scene):
    """With 40 events in hand and none in the queue, whose content would be gone. Published again at
    once: without the queue the broker returns what is published, and confirms nothing."""
    scene.publisher.pause()
    wait("nothing to wait for a retry", lambda: scene.account.settled_before(time.time()))
    queue = scene.site.queue(scene.publisher.event_type)
    for _ in range(IN_HAND):
        scene.publisher.publish("slow", ms=IN_HAND_MS)
    wait("all to be in hand", lambda: scene.site.broker.depth(queue) == 0)
    scene.strike()
    scene.site.broker.delete(queue)
    scene.publisher.resume()


def disk_full(scene):
    """Nothing is left of the disk that PostgreSQL's data and its log are on."""
    path = scene.small_disk / "ballast"
    scene.strike()
    with open(path, "wb", buffering=0) as ballast, contextlib.suppress(OSError):
        while True:
            ballast.write(bytes(1 << 16))
    scene.hold(3, 15)
    path.unlink()
    scene.services.start("postgres")  # when it has given up


# the way to them

def cut(name):
    def fault(scene):
        for _ in range(2 if scene.quick else 10):
            scene.strike()
            scene.proxies[name].cut()
            time.sleep(scene.chance.uniform(0.1, 0.6))
    return fault


def cut_at_a_byte(name):
    """In the middle of whatever is said: before a COMMIT, within it, before its answer."""
    def fault(scene):
        proxy = scene.proxies[name]
        for _ in range(4 if scene.quick else 25):
            scene.strike()
            proxy.cut_after(scene.chance.randint(1, 6000))
            with contextlib.suppress(AssertionError):
                wait("its byte", lambda: proxy.fuse_bytes is None, 1)
        proxy.mend()
    return fault


def hole(name):
    def fault(scene):
        scene.strike()
        scene.proxies[name].hole()
        scene.hold(2, 35)
        scene.proxies[name].mend()
    return fault


def strand(name):
    """The way of the connections that there are leads nowhere from now on."""
    def fault(scene):
        scene.strike()
        scene.proxies[name].strand()
        return time.time()
    return fault


def trickle(name):
    def fault(scene):
        scene.strike()
        scene.proxies[name].slow(scene.chance.choice((1, 100)))
        scene.hold(3, 30)
        scene.proxies[name].mend()
    return fault


# the worker

def lanes_killed(scene):
    for _ in range(3 if scene.quick else 15):
        scene.kill_lane()
        time.sleep(scene.chance.uniform(0, 0.6))


def lane_stopped(scene):
    scene.strike()
    lanes = wait("a lane", scene.worker.lanes)
    with stopped([scene.chance.choice(lanes)]):
        scene.hold(2, 30)


def supervisor_killed(scene):
    scene.strike()
    scene.worker.kill()
    scene.hold(0, 1)
    scene.worker.start()


class Clock:
    """The worker's wall clock, by a library that is loaded before others."""

    def __init__(self, folder):
        self.library, self.ahead = folder / "clock.so", folder / "clock"
        self.set(0)
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror",
                        "-D_GNU_SOURCE", "-o", self.library, HERE / "clock.c"],
                       check=True, timeout=60)

    def set(self, ahead_s):
        """Writes in place: it is mapped."""
        with open(self.ahead, "r+b" if self.ahead.exists() else "wb") as file:
            file.write(struct.pack("q", ahead_s))

    def environment(self):
        return {"LD_PRELOAD": str(self.library), "CHAOS_CLOCK": str(self.ahead)}


def clock_jumps(scene):
    for ahead_s in (3600, -3600, 40 * 86400, 0):
        scene.strike()
        scene.clock.set(ahead_s)
        scene.hold(0.5, 4)


# what can be had here

@contextlib.contextmanager
def small_disk(services_folder):
    """Puts PostgreSQL's folder on a file system of its own, which can be filled; where that may not
    be done, does nothing."""
    folder = services_folder / "postgres"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={BALLAST_BYTES},mode=755",
                              "leveret-chaos", folder], check=False, capture_output=True)
    try:
        yield
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", folder], check=False, timeout=30)


def why_not(scene, name):
    """Why a fault cannot be had here, or None."""
    if name == "postgres-disk-full" and scene.small_disk is None:
        return "only root can give PostgreSQL a small disk, and only on servers of its own"
    if name == "clock-jumps" and scene.clock is None:
        return "there is no C compiler"
    return None


def has_compiler():
    return shutil.which("cc") is not None


FAULTS = {
    **{f"{name}-kill": kill_server(name) for name in NAMES},
    **{f"{name}-stop": stop_server(name) for name in NAMES},
    **{f"{name}-cut": cut(name) for name in NAMES},
    **{f"{name}-byte-cut": cut_at_a_byte(name) for name in NAMES},
    **{f"{name}-hole": hole(name) for name in NAMES},
    **{f"{name}-strand": strand(name) for name in NAMES},
    **{f"{name}-trickle": trickle(name) for name in NAMES},
    "memory-alarm": alarm("memory"),
    "disk-alarm": alarm("disk"),
    "queue-delete": queue_deleted,
    "postgres-disk-full": disk_full,
    "lane-kill": lanes_killed,
    "lane-stop": lane_stopped,
    "supervisor-kill": supervisor_killed,
    "everything-kill": everything,
    "clock-jumps": clock_jumps,
}
SHORT = ("lane-kill", "postgres-kill", "postgres-byte-cut", "rabbitmq-cut", "redis-hole",
         "queue-delete", "supervisor-kill", "clock-jumps")
# Where a lane dies, an event may be charged with it.
CRASHES = ("lane-kill", "lane-stop", "supervisor-kill", "everything-kill")
