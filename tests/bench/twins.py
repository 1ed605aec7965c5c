#!/usr/bin/env python3
"""What an event costs the worker's processor, handled by a Lua file and by its C twin: the ticket
events of handlers/opsdesk, and plugins/cache_invalidate. In alternation, over a drained queue.

    eval "$(tests/services.sh start DIR && tests/services.sh env DIR)"
    tests/bench/twins.py BUILD [--count N] [--repeats N]      a Release build with LEVERET_BENCH=ON
"""
import argparse
import os
import pathlib
import shutil
import statistics
import sys

sys.dont_write_bytecode = True

from bench.leveret import Worker  # noqa: E402
from bench.site import QUEUE, Site  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
TICK_US = 1e6 / os.sysconf("SC_CLK_TCK")


def processor_us(pid):
    """Of the process and of those that it started."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    used = (int(fields[11]) + int(fields[12])) * TICK_US
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return used + sum(map(processor_us, file.read().split()))


def contenders(site):
    """Both handlers, each with its log, and both without the lines: at level warn."""
    lua, native = site.work / "lua", site.work / "c"
    lua.mkdir()
    native.mkdir()
    text = (ROOT / "handlers/opsdesk/ticket.created.lua").read_text()
    text = text.replace("return {", f'return {{ queue = "{QUEUE}", bind = false,', 1)
    (lua / "ticket.created.lua").write_text(text)
    shutil.copy(site.build / "plugins/cache_invalidate.so", native)
    handler = {"queue": QUEUE, "bind": False, "events": ["ticket.created"]}
    options = {"plugins": {"cache_invalidate": {"handler": handler}}}
    for level in ("info", "warn"):
        yield f"Lua, log level {level}", lua, {}, level
        yield f"C, log level {level}", native, options, level


def measure(site, count, folder, sections, level):
    site.new_queue("classic")
    site.new_database("leveret")
    site.fill(count)
    rabbitmq, log = {"queue_type": "classic"}, {"level": level}
    worker = Worker(site, folder, rabbitmq=rabbitmq, log=log, **sections).start()
    worker.wait_processed(count)
    used = processor_us(worker.process.pid)
    worker.stop()
    site.check_empty()
    if site.rows() != count:
        raise RuntimeError(f"{site.rows()} rows for {count} events")
    return used / count


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=100000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    site, found = Site(options.build), {}
    both = list(contenders(site))
    for _ in range(options.repeats):
        for name, *how in both:
            found.setdefault(name, []).append(measure(site, options.count, *how))
            print(f"{name}: {found[name][-1]:.1f} us", flush=True)
    print()
    for name, costs in found.items():
        print(f"| {name} | {statistics.median(costs):.1f} | {min(costs):.1f} to {max(costs):.1f} |")


if __name__ == "__main__":
    main()
