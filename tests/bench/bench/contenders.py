"""Who takes part in the race, and how each is run and checked.

A contender drains a full queue and returns how many events a second it did. Nobody's figure counts
unless the broker holds nothing afterwards and, where there is a ledger, every event has its row."""
import os
import subprocess
import time

from bench.leveret import Worker, handlers
from bench.site import HERE, QUEUE


PYTHON = "/usr/bin/python3"  # Debian's packages are for Debian's


class Contender:
    ledger = None  # which table it needs: 'leveret', 'seed', or none
    share = 1.0    # of the messages: slow ones drain fewer, at the same rate

    def __init__(self, name):
        self.name = name

    def missing(self, site):
        """What it lacks here; None when it can run."""
        return None

    def prepare(self, site, count):
        site.fill(count)

    def drain(self, site, count):
        raise NotImplementedError

    def run(self, site, kind, count):
        count = max(1000, int(count * self.share))
        site.new_queue(kind)
        if self.ledger:
            site.new_database(self.ledger)
        self.prepare(site, count)
        rate = self.drain(site, count)
        self.check(site, count)
        return rate

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

    def missing(self, site):
        return None if any(handlers(self.folder).glob("*")) else "its handler"

    def drain(self, site, count):
        worker = Worker(site, self.handlers(site), **self.sections).start()
        rate = worker.rate(count)
        worker.stop()
        return rate

    def handlers(self, site):
        return handlers(self.folder)

    def run(self, site, kind, count):
        rabbitmq = self.sections.get("rabbitmq", {}) | {"queue_type": kind}
        self.sections = self.sections | {"rabbitmq": rabbitmq}
        return super().run(site, kind, count)


class LeveretPlugin(Leveret):
    """The C twin of the Lua handler."""

    def missing(self, site):
        return None if (self.handlers(site) / "bench.so").exists() else "its plugin"

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

    def missing(self, site):
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

    def missing(self, site):
        found = subprocess.run([PYTHON, "-c", "import celery"], stderr=subprocess.DEVNULL,
                               check=False)
        return None if found.returncode == 0 else "celery is not installed"

    def _environment(self):
        return os.environ | {"QUEUE": QUEUE, "PYTHONPATH": str(HERE / "workers/celery")}

    def prepare(self, site, count):
        script = ("import sys, seed_worker\n"
                  "with seed_worker.app.pool.acquire(block=True) as connection:\n"
                  "    for i in range(int(sys.argv[1])):\n"
                  "        seed_worker.ticket_created.apply_async(({'id': str(i), 'title':"
                  " 'Printer on fire', 'ownerId': 'owner-1', 'description': 'x' * 160},),"
                  " connection=connection)\n")
        subprocess.run([PYTHON, "-c", script, str(count)], check=True,
                       env=self._environment())

    def run(self, site, kind, count):
        if kind == "quorum":
            return None  # it declares its queue itself, and cannot declare this kind
        site.new_queue("classic", QUEUE + ".unused")
        site.delete_queue(QUEUE)
        count = int(count * self.share)
        self.prepare(site, count)
        rate = self.drain(site, count)
        site.check_empty()
        return rate

    def drain(self, site, count):
        process = subprocess.Popen([PYTHON, "-m", "celery", "-A", "seed_worker", "worker",
                                    "-c", "2", "-l", "error", "--without-gossip", "--without-mingle",
                                    "--without-heartbeat"],
                                   env=self._environment(), stdout=subprocess.DEVNULL,
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

