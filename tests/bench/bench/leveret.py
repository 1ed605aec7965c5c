"""A leveret worker to be measured, as a process."""
import atexit
import itertools
import json
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

from bench.site import DEAD_LETTER, HERE, plain_environment

numbers = itertools.count(1)


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def lua(value):
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {lua(item)}" for key, item in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "{ " + ", ".join(map(lua, value)) + " }"
    return json.dumps(value) if isinstance(value, str) else str(value).lower()


def _resident_kib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1))


class Worker:
    """`handlers` is a folder; the other arguments are sections of the configuration."""

    def __init__(self, site, handlers, **sections):
        self.site = site
        self.directory = site.work / f"worker-{next(numbers)}"
        self.directory.mkdir()
        self.port = free_port()
        config = {
            "name": "bench", "handlers": [str(handlers)],
            "postgres": {"url": site.database_url()}, "redis": {"url": site.redis_url},
            "dead_letter": {"queue": DEAD_LETTER}, "admin": {"listen": f"127.0.0.1:{self.port}"},
            "log": {"level": "warn"},  # the others write no line for each event either
        }
        rabbitmq = {"url": site.rabbitmq_url} | sections.pop("rabbitmq", {})
        config |= {"rabbitmq": rabbitmq} | sections
        self.config = self.directory / "leveret.lua"
        self.config.write_text("".join(f"{key} = {lua(item)}\n" for key, item in config.items()))
        self.process = None
        atexit.register(self.end_at_once)

    def end_at_once(self):
        """After a failed run none stays behind, which would take the next one's messages."""
        if self.process and self.process.poll() is None:
            self.process.kill()

    def start(self):
        """Returns when its admin pages answer."""
        self.started_s = time.monotonic()
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen([self.site.leveret, "run", "-c", self.config],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            cwd=self.directory, env=plain_environment())
        while True:
            try:
                self.get("/livez")
                return self
            except urllib.error.HTTPError:
                return self
            except OSError:
                time.sleep(0.005)

    def log(self):
        return (self.directory / "log").read_text(errors="replace")

    def get(self, path):
        url = f"http://127.0.0.1:{self.port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError:
            raise
        except OSError:
            if self.process.poll() is not None:
                raise RuntimeError(f"the worker ended: {self.log()[-2000:]}") from None
            raise

    def processed(self):
        return json.loads(self.get("/metrics.json"))["processed"]

    def rate(self, count, limit_s=300):
        """Events a second, from the first sample that shows some to the one that shows all. Samples
        cost the processors that the worker needs, so there are few while the end is far."""
        first_s, first, none_s = None, 0, time.monotonic()
        deadline = time.monotonic() + limit_s
        while True:
            done, now_s = self.processed(), time.monotonic()
            if done >= count:
                if first_s is None:  # too few to be seen on their way
                    return count / (now_s - none_s)
                return (count - first) / (now_s - first_s)
            if now_s > deadline:
                raise RuntimeError(f"{done} of {count} events after {limit_s} s")
            if done == 0:
                none_s = now_s
            elif first_s is None:
                first_s, first = now_s, done
            # It may come sooner than the beginning made expect: a sample late costs 5 % at most.
            elapsed_s = now_s - first_s if done > first else 0
            left_s = (count - done) * elapsed_s / (done - first) if done > first else 0
            time.sleep(max(0.01, min(left_s / 2, elapsed_s / 20)))

    def wait_processed(self, count, limit_s=300):
        deadline = time.monotonic() + limit_s
        while self.processed() < count:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.processed()} of {count} events after {limit_s} s")
            time.sleep(0.02)

    def wait_consuming(self, limit_s=30):
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            try:
                self.get("/readyz")
                return
            except urllib.error.HTTPError:
                time.sleep(0.02)
        raise RuntimeError(f"the worker is not ready: {self.log()[-2000:]}")

    def memory_kib(self):
        """Resident, of all lanes; the supervisor beside them holds no events."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children",
                  encoding="ascii") as file:
            return sum(map(_resident_kib, file.read().split()))

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(60) != 0:
            raise RuntimeError(f"the worker ended badly: {self.log()[-2000:]}")


def handlers(name):
    return HERE / "handlers" / name
