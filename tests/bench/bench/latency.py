"""From publish to ack, at a steady rate, by a proxy that sees both."""
import itertools
import os
import subprocess
import threading
import urllib.parse

from bench.leveret import Worker, handlers
from bench.site import QUEUE

WARM_UP = 200  # events that do not count
SEED_MOST = 800  # a second; at prefetch 1 it does hardly more, and its queue would only grow


def quantile(values, share):
    return values[min(len(values) - 1, int(share * len(values)))]


class Probe:
    def __init__(self, site):
        port = urllib.parse.urlsplit(site.rabbitmq_url).port
        self.process = subprocess.Popen([site.tool("ack_probe"), str(port)],
                                        stdout=subprocess.PIPE, text=True)
        mine = self.process.stdout.readline().strip()
        self.url = site.rabbitmq_url.replace(f":{port}", f":{mine}")

    def latencies_ms(self, count, limit_s):
        end = threading.Timer(limit_s, self.process.terminate)
        end.start()
        values = [int(line) / 1000 for line in itertools.islice(self.process.stdout, count)]
        end.cancel()
        if len(values) < count:
            raise RuntimeError(f"{len(values)} of {count} events were acked in {limit_s} s")
        return sorted(values[WARM_UP:])

    def close(self):
        self.process.terminate()
        self.process.wait()


def _publish(site, rate, count):
    return subprocess.Popen([site.tool("publish"), site.rabbitmq_url, QUEUE, str(count), "300",
                             "--rate", str(rate)], stdout=subprocess.DEVNULL)


def measure(site, probe, rate, seconds):
    count = WARM_UP + rate * seconds
    publisher = _publish(site, rate, count)
    values = probe.latencies_ms(count, 60 + 2 * count / rate)
    publisher.wait()
    return {"p50": quantile(values, 0.5), "p99": quantile(values, 0.99),
            "p99.9": quantile(values, 0.999)}


def of_leveret(site, rate, seconds, kind):
    site.new_queue(kind)
    site.new_database("leveret")
    probe = Probe(site)
    worker = Worker(site, handlers("lua"), rabbitmq={"url": probe.url, "queue_type": kind}).start()
    try:
        worker.wait_consuming()
        found = measure(site, probe, rate, seconds)
    finally:
        worker.stop()
        probe.close()
    _check(site, rate, seconds)
    return found


def _check(site, rate, seconds):
    site.check_empty()
    if site.rows() != WARM_UP + rate * seconds:
        raise RuntimeError(f"{site.rows()} rows for {WARM_UP + rate * seconds} events")


def of_seed(site, rate, seconds, kind, prefetch):
    if not (site.workers("node") / "worker.js").exists():
        return {"not run": "node is not set up here"}
    if rate > SEED_MOST:
        return {"not run": "more than it can do"}
    site.new_queue(kind)
    site.new_database("seed")
    probe = Probe(site)
    count = WARM_UP + rate * seconds
    environment = os.environ | {"RABBITMQ_URL": probe.url, "DATABASE_URL": site.database_url(),
                                "QUEUE": QUEUE, "COUNT": str(count), "PREFETCH": str(prefetch)}
    worker = subprocess.Popen(["node", "worker.js"], cwd=site.workers("node"), env=environment,
                              stdout=subprocess.DEVNULL)
    try:
        while site.depth()[1] == 0 and worker.poll() is None:
            pass
        found = measure(site, probe, rate, seconds)
    finally:
        if worker.poll() is None:
            worker.wait(60)
        probe.close()
    _check(site, rate, seconds)
    return found
