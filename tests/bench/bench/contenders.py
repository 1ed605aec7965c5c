"""Who takes part in the race, and how each is run and checked.

A contender drains a full queue and returns how many events a second it did. Nobody's figure counts
unless the broker holds nothing afterwards and, where there is a ledger, every event has its row."""
import contextlib
import os
import subprocess
import time

from bench.leveret import Worker, handlers
from bench.site import HERE, QUEUE


PYTHON = "/usr/bin/python3"  # Debian's packages are for Debian's
EVENTS_LEAST = 3000  # fewer would be mostly the beginning, in which interpreters are slow
REST_S = 3


class Contender:
    ledger = None  # which table it needs: 'leveret', 'seed', or none
    share = 1.0    # of the messages: slow ones drain fewer, at the same rate

    def __init__(self, name):
        self.name = name

    def missing(self, site, kind):
        """Why it cannot run here; None when it can."""
        return None

    def events(self, count):
        return min(count, max(EVENTS_LEAST, int(count * self.share)))

    def prepare(self, site, count):
        site.fill(count)

    def drain(self, site, count):
        raise NotImplementedError

    def run(self, site, kind, count, rested=False):
        """Of a queue that is in service, or of one that has rested."""
        count = self.events(count)
        self.make_queue(site, kind)
        if self.ledger:
            site.new_database(self.ledger)
        self.prepare(site, count)
        if rested:
            time.sleep(REST_S)
        with contextlib.nullcontext() if rested else site.awake():
            rate = self.drain(site, count)
        self.check(site, count)
        return rate

    def make_queue(self, site, kind):
        site.new_queue(kind)

    def check(self, site, count):
        site.check_empty()
        if self.ledger and site.rows() != count:
            raise RuntimeError(f"{self.name}: {site.rows()} rows for {count} events")


class Bare(Contender):
    """Nothing but acks."""

    def drain(self, site, count):
        result = subprocess.run([site.tool("consume"), site.rabbitmq_url, QUEUE, str(count), "500"],
                                check=True, stdout=subprocess.PIPE, text=True)
        return count / float(result.stdout)


class Leveret(Contender):
    ledger = "leveret"

    def __init__(self, name, folder, **sections):
        super().__init__(name)
        self.folder = folder
        self.sections = sections

    def drain(self, site, count):
        worker = Worker(site, self.handlers(site), **self.sections).start()
        rate = worker.rate(count)
        worker.stop()
        return rate

    def handlers(self, site):
        return handlers(self.folder)

    def make_queue(self, site, kind):
        rabbitmq = self.sections.get("rabbitmq", {}) | {"queue_type": kind}
        self.sections = self.sections | {"rabbitmq": rabbitmq}
        super().make_queue(site, kind)


class LeveretPlugin(Leveret):
    """The C twin of the Lua handler."""

    def missing(self, site, kind):
        return None if (self.handlers(site) / "bench.so").exists() else "its plugin is not built"

    def handlers(self, site):
        return site.build / "bench-plugin"


class LeveretTransaction(Leveret):
    share = 0.2

    def check(self, site, count):
        super().check(site, count)
        if site.tickets() != count:
            raise RuntimeError(f"{self.name}: {site.tickets()} updates for {count} events")


class Written(Contender):
    """A worker written by hand; it prints its seconds."""
    ledger = "seed"

    def __init__(self, name, kind, command, prefetch, share):
        super().__init__(name)
        self.kind, self.command, self.prefetch, self.share = kind, command, prefetch, share

    def missing(self, site, kind):
        program = site.workers(self.kind) / self.command[-1]
        return None if program.exists() else f"{self.kind} is not set up here"

    def drain(self, site, count):
        environment = os.environ | {"DATABASE_URL": site.database_url(), "QUEUE": QUEUE,
                                    "COUNT": str(count), "PREFETCH": str(self.prefetch)}
        command = [*self.command[:-1], site.workers(self.kind) / self.command[-1]]
        result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True,
                                env=environment, cwd=site.workers(self.kind), timeout=600)
        return count / float(result.stdout)


class Celery(Contender):
    """Two processes, acks late, no deduplication. Its rate is read from the queue's depth, between
    a tenth and nine tenths of the way."""
    share = 0.1

    def missing(self, site, kind):
        if kind == "quorum":
            return "it limits its window for the whole channel, which quorum queues refuse"
        found = subprocess.run([PYTHON, "-c", "import celery"], stderr=subprocess.DEVNULL,
                               check=False)
        return None if found.returncode == 0 else "celery is not installed"

    def _environment(self, site):
        return os.environ | {"QUEUE": QUEUE, "PYTHONPATH": str(HERE / "workers/celery"),
                             "COUNTS": str(self._counts(site))}

    @staticmethod
    def _counts(site):
        """The file in which each of its processes writes how many tasks it has done."""
        return site.work / "celery-counts"

    def prepare(self, site, count):
        script = ("import sys, seed_worker\n"
                  "with seed_worker.app.pool.acquire(block=True) as connection:\n"
                  "    for i in range(int(sys.argv[1])):\n"
                  "        seed_worker.ticket_created.apply_async(({'id': str(i), 'title':"
                  " 'Printer on fire', 'ownerId': 'owner-1', 'description': 'x' * 160},),"
                  " connection=connection)\n")
        subprocess.run([PYTHON, "-c", script, str(count)], check=True,
                       env=self._environment(site))

    def make_queue(self, site, kind):
        """It declares its queue itself."""
        super().make_queue(site, kind)
        site.delete_queue(QUEUE)
        self._counts(site).unlink(missing_ok=True)

    def check(self, site, count):
        super().check(site, count)
        done = sum(map(int, self._counts(site).read_text().split()))
        if done != count:
            raise RuntimeError(f"{self.name}: {done} tasks were done of {count}")

    def drain(self, site, count):
        process = subprocess.Popen([PYTHON, "-m", "celery", "-A", "seed_worker", "worker",
                                    "-c", "2", "-l", "error", "--without-gossip", "--without-mingle",
                                    "--without-heartbeat"],
                                   env=self._environment(site), stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, cwd=site.work)
        try:
            self._await_depth(site, 0.9 * count)
            begin_s, begin = time.monotonic(), site.depth()[0]
            end = self._await_depth(site, 0.1 * count)
            rate = (begin - end) / (time.monotonic() - begin_s)
            self._await_depth(site, 0)
            time.sleep(0.5)  # what it has prefetched
            return rate
        finally:
            process.terminate()
            process.wait(60)

    def _await_depth(self, site, depth, limit_s=120):
        deadline = time.monotonic() + limit_s
        while (waiting := site.depth()[0]) > depth:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name}: {waiting} messages still wait after {limit_s} s")
            time.sleep(0.02)
        return waiting


def all_contenders():
    return [
        Bare("bare rabbitmq-c consumer"),
        Leveret("leveret, Lua", "lua"),
        Leveret("leveret, Lua, prefetch 2000", "lua", rabbitmq={"prefetch": 2000}),
        LeveretPlugin("leveret, C plugin", "lua"),
        LeveretTransaction("leveret, Lua with ctx.db", "db"),
        Written("Node, prefetch 1", "node", ["node", "worker.js"], 1, 0.05),
        Written("Node, prefetch 10", "node", ["node", "worker.js"], 10, 0.1),
        Written("Node, prefetch 100", "node", ["node", "worker.js"], 100, 0.1),
        Written("Go, prefetch 100", "go", ["worker"], 100, 0.2),
        Celery("Celery, acks late"),
    ]


def main_names():
    """Those that the ratios are about."""
    return {"bare": "bare rabbitmq-c consumer", "ours": "leveret, Lua",
            "seed": "Node, prefetch 10", "go": "Go, prefetch 100"}
