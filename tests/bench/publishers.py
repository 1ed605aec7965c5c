#!/usr/bin/python3
"""libleveret's publisher beside a plain one on rabbitmq-c with confirms, in turns.

usage: publishers.py BUILD [TURNS]     (built with -DLEVERET_BENCH=ON; RABBITMQ_URL names a broker)"""
import os
import pathlib
import statistics
import subprocess
import sys

import pika

EVENTS, BODY_BYTES, QUEUE = 100000, 300, "bench.publishers"
PROGRAMS = {"rabbitmq-c": "bench_publish", "libleveret": "bench_publish_leveret"}


def rate(build, program, queue_type):
    url = os.environ["RABBITMQ_URL"]
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.queue_delete(QUEUE)
    channel.queue_declare(QUEUE, durable=True, arguments={"x-queue-type": queue_type})
    answer = subprocess.run([build / program, url, QUEUE, str(EVENTS), str(BODY_BYTES)],
                            stdout=subprocess.PIPE, text=True, check=True)
    channel.queue_delete(QUEUE)
    connection.close()
    return EVENTS / float(answer.stdout)


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    build, turns = pathlib.Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) == 3 else 5
    for queue_type in ("quorum", "classic"):
        rates = {name: [] for name in PROGRAMS}
        for _ in range(turns):
            for name, program in PROGRAMS.items():
                rates[name].append(rate(build, program, queue_type))
        plain, ours = (statistics.median(rates[name]) for name in PROGRAMS)
        print(f"{queue_type}: rabbitmq-c {plain:,.0f}/s, libleveret {ours:,.0f}/s, "
              f"ratio {ours / plain:.2f}")


if __name__ == "__main__":
    main()
