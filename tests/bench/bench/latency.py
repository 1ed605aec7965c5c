"""From publish to ack, at a steady rate, by a proxy that sees both."""
import os
import subprocess
import urllib.parse

from bench.leveret import Worker, handlers
from bench.site import QUEUE

WARM_UP = 200  # events that do not count


def quantile(values, share):
    return values[min(len(values) - 1, int(share * len(values)))]


class Probe:
    def __init__(self, site):
        port = urllib.parse.urlsplit(site.rabbitmq_url).port
        self.process = subprocess.Popen([site.tool("ack_probe"), str(port)],
                                        stdout=subprocess.PIPE, text=True)
        mine = self.process.stdout.readline().strip()
        self.url = site.rabbitmq_url.replace(f":{port}", f":{mine}")

    def latencies_ms(self, count):
        values = [int(self.process.stdout.readline()) / 1000 for _ in range(count)]
        return sorted(values[WARM_UP:])

    def close(self):
        self.process.terminate()
        self.process.wait()


def _publish(site, rate, count):
    return subprocess.Popen([site.tool("publish"), site.rabbitmq_url, QUEUE, str(count), "300",
                             "--rate", str(rate)], stdout=subprocess.DEVNULL)


def _measure(site, probe, rate, seconds):
    count = WARM_UP + rate * seconds
    publisher = _publish(site, rate, count)
    values = probe.latencies_ms(count)
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
        return _measure(site, probe, rate, seconds)
    finally:
        worker.stop()
        probe.close()


def of_seed(site, rate, seconds, kind, prefetch):
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
        return _measure(site, probe, rate, seconds)
    finally:
        if worker.poll() is None:
            worker.wait(60)
        probe.close()
