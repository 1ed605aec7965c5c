"""What the chaos runs share: servers of their own, a publisher that knows what was confirmed, and the
handler whose every run leaves a trace."""
import contextlib
import json
import os
import pathlib
import random
import sys
import tempfile
import threading
import time
from dataclasses import dataclass

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))

import redis  # noqa: E402
from harness.broker import DEAD, Broker  # noqa: E402
from harness.services import Services  # noqa: E402
from harness.site import Site  # noqa: E402

PAUSE_S = 0.02  # before what was not confirmed is published again


@contextlib.contextmanager
def private_site(given=None, prepare=contextlib.nullcontext):
    """A site of servers in the folder `given`, or of own ones; prepare(folder) is a context around
    those."""
    with tempfile.TemporaryDirectory(prefix="leveret-chaos-") as directory:
        os.chmod(directory, 0o755)  # PostgreSQL may run as another user
        folder = pathlib.Path(directory) / "site"
        folder.mkdir()
        if given:
            with make_site(Services(given).load(), folder) as site:
                yield site
            return
        services = Services(pathlib.Path(directory) / "services")
        services.directory.mkdir()
        with prepare(services.directory):
            try:
                services.run("start")
                with make_site(services.load(), folder) as site:
                    yield site
            finally:
                services.run("stop")


@contextlib.contextmanager
def make_site(services, folder):
    broker = Broker(services.rabbitmq_url)
    cache = redis.Redis.from_url(services.redis_url, decode_responses=True)
    site = Site(services, broker, cache, None, folder)
    site.admin_sql(f'create database "{site.database_name}"')
    site.migrate()
    try:
        yield site
    finally:
        site.close()


@dataclass
class Published:
    kind: str
    body: str
    began: float  # when it was first published, and when the broker had confirmed it
    confirmed: float = None


class Publisher(threading.Thread):
    """Publishes until told to stop; remembers what the broker has confirmed. What it has not is
    published again, with the same id. kinds: (weight, name, payload) each."""

    def __init__(self, site, event_type, seed, rate, kinds):
        super().__init__(daemon=True)
        self.site = site
        self.event_type = event_type
        self.random = random.Random(seed)
        self.rate = rate
        self.kinds = kinds
        self.broker = Broker(site.services.rabbitmq_url)
        self.stopping = threading.Event()
        self.playing = threading.Event()
        self.playing.set()
        self.idle = threading.Event()
        self.events = {}

    def run(self):
        began, count = time.monotonic(), 0
        while not self.stopping.is_set():
            if not self.playing.is_set():
                self.idle.set()
                self.playing.wait()
                self.idle.clear()
                began, count = time.monotonic(), 0
            self.publish()
            count += 1
            late_s = time.monotonic() - began - count / self.rate
            if late_s > 1:  # an outage is not made up for
                began, count = time.monotonic(), 0
            time.sleep(max(0, -late_s))
        self.broker.close()

    def publish(self, kind=None, **payload):
        """Returns the id, once it is confirmed."""
        if kind is None:
            weights = [weight for weight, _, _ in self.kinds]
            _, kind, payload = self.random.choices(self.kinds, weights)[0]
            payload = {"ms": self.random.randint(1, 40), **payload}
        event_id = f"{self.random.getrandbits(64):016x}"
        body = json.dumps({"event": self.event_type, "payload": payload})
        event = self.events[event_id] = Published(kind, body, time.time())
        for _ in range(2 if kind == "twice" else 1):
            self.send(event_id, body)
        event.confirmed = time.time()
        return event_id

    def send(self, event_id, body):
        while True:
            try:
                self.broker.publish(self.site.exchange, self.event_type, body,
                                    message_id=event_id)
                return
            except DEAD:
                time.sleep(PAUSE_S)

    def pause(self, timeout_s=60):
        """Returns when the last one is confirmed."""
        self.playing.clear()
        assert self.idle.wait(timeout_s), "the publisher is stuck"

    def resume(self):
        self.playing.set()

    def stop(self, timeout_s=60):
        assert self.is_alive(), "the publisher has ended by itself"
        self.stopping.set()
        self.resume()
        self.join(timeout_s)
        assert not self.is_alive(), "the publisher is stuck"

    def confirmed(self):
        return {event_id: event for event_id, event in self.events.copy().items()
                if event.confirmed is not None}


def dead_letters(site):
    """Takes all that are there."""
    return site.broker.drain(site.dead_letter)


def is_crash(letter):
    """Whether the event is said to have killed its lane."""
    return (letter.header("leveret-error") or "").startswith("crash:")
