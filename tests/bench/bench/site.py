"""The servers, and what one run of a contender has to itself: a queue, and a database."""
import contextlib
import os
import pathlib
import subprocess
import tempfile
import threading
import time
import urllib.parse

import pika
import psycopg2

HERE = pathlib.Path(__file__).resolve().parents[1]
QUEUE = "bench.work"
DEAD_LETTER = "bench.dlq"
SEED_TABLE = """
create table processed_events (
    id uuid primary key default gen_random_uuid(), event_id text not null unique,
    event_type text not null, processed_at timestamp not null default now(),
    processor_name text not null)
"""
OWNERS = """
create table bench_owners (id int primary key, tickets bigint not null default 0)
    with (fillfactor = 50);
insert into bench_owners select n from generate_series(1, 10000) n
"""


def plain_environment():
    """leveret's own variables win over its file, and are not for the worker under test."""
    return {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}


class Site:
    def __init__(self, build):
        self.build = pathlib.Path(build)
        self.leveret = self.build / "leveret"
        self.rabbitmq_url = os.environ["RABBITMQ_URL"]
        self.redis_url = os.environ["REDIS_URL"]
        self._database_url = os.environ["DATABASE_URL"]
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="bench-", dir=self.build))

    def tool(self, name):
        return self.build / f"bench_{name}"

    def workers(self, kind):
        """Where a contender's installed or compiled program lies."""
        return self.build / "bench-workers" / kind

    def servers(self):
        """What the figures depend on, in words."""
        connection, _ = self._channel()
        rabbitmq = connection._impl.server_properties["version"]
        connection.close()
        shown = {name: self.sql(f"show {name}", database="postgres")[0][0]
                 for name in ("server_version", "fsync", "synchronous_commit")}
        return {"RabbitMQ": rabbitmq, "PostgreSQL": shown.pop("server_version").split()[0]} | shown

    # the database

    def database_url(self, name="bench"):
        """Without TLS, for everybody: libpq uses it where the server has it, Node's driver does
        not, and Go's insists on it unless it is told not to."""
        return urllib.parse.urlsplit(self._database_url)._replace(
            path="/" + name, query="sslmode=disable").geturl()

    def sql(self, *statements, database="bench"):
        connection = psycopg2.connect(self.database_url(database))
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return cursor.fetchall() if cursor.description else None
        finally:
            connection.close()

    def new_database(self, table):
        """An empty one with the ledger ('leveret') or with the seed's table ('seed')."""
        self.sql('drop database if exists "bench" with (force)', 'create database "bench"',
                 database="postgres")
        self.sql(OWNERS)
        if table == "seed":
            self.sql(SEED_TABLE)
        else:
            config = self.work / "migrate.lua"
            config.write_text(f'postgres = {{ url = "{self.database_url()}" }}\n')
            subprocess.run([self.leveret, "migrate", "-c", config], check=True,
                           capture_output=True, cwd=self.work, env=plain_environment())
        self.sql("vacuum analyze", "checkpoint")

    def fill_ledger(self, rows):
        """With keys as random as real ones, which are hashes. The key's index is built last, which
        is several times faster; its pages are then fuller than grown ones, and split more."""
        if rows == 0:
            return
        self.sql("alter table processed_events drop constraint processed_events_pkey",
                 "insert into processed_events (id, event_id, event_type, processor_name, queue) "
                 "select gen_random_uuid(), 'id-' || n, 'ticket.created', 'bench', 'other' "
                 f"from generate_series(1, {rows}) n",
                 "alter table processed_events add primary key (id)",
                 "vacuum analyze", "checkpoint")

    def rename_database(self, old, new):
        """Puts one aside, or takes it back, with all that is in it."""
        self.sql(f'drop database if exists "{new}" with (force)',
                 f'alter database "{old}" rename to "{new}"', database="postgres")

    def rows(self):
        return self.sql("select count(*) from processed_events")[0][0]

    def tickets(self):
        return self.sql("select sum(tickets)::bigint from bench_owners")[0][0]

    # the queue

    def _channel(self):
        connection = pika.BlockingConnection(pika.URLParameters(self.rabbitmq_url))
        return connection, connection.channel()

    def new_queue(self, kind, name=QUEUE):
        """Empty, with the arguments that leveret gives its own queues of that type."""
        connection, channel = self._channel()
        for queue in (name, DEAD_LETTER):
            channel.queue_delete(queue)
        channel.queue_declare(DEAD_LETTER, durable=True, arguments={
            "x-queue-type": "quorum", "x-delivery-limit": 1000000})
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": DEAD_LETTER}
        if kind == "quorum":
            arguments |= {"x-queue-type": "quorum", "x-dead-letter-strategy": "at-least-once",
                          "x-overflow": "reject-publish", "x-delivery-limit": 1000000}
        channel.queue_declare(name, durable=True, arguments=arguments)
        connection.close()

    def delete_queue(self, name):
        connection, channel = self._channel()
        channel.queue_delete(name)
        connection.close()

    def depth(self, name=QUEUE):
        """Messages that wait, and consumers."""
        connection, channel = self._channel()
        answer = channel.queue_declare(name, passive=True).method
        connection.close()
        return answer.message_count, answer.consumer_count

    def fill(self, count, body_bytes=300, name=QUEUE, *options):
        subprocess.run([self.tool("publish"), self.rabbitmq_url, name, str(count), str(body_bytes),
                        *options], check=True, stdout=subprocess.DEVNULL)

    @contextlib.contextmanager
    def awake(self, name=QUEUE):
        """A classic queue that nothing asks for a second hibernates, and is nearly three times as
        fast afterwards. One in service does not come to that: neither does this one, however long
        its consumer takes to begin."""
        done = threading.Event()

        def ask():
            connection, channel = self._channel()
            while not done.wait(0.3):
                channel.queue_declare(name, passive=True)
            connection.close()

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        try:
            yield
        finally:
            done.set()
            asking.join()

    def check_empty(self, name=QUEUE):
        """Every message was acked: with its consumer gone, the broker holds none. What it tells of
        a queue may be a moment old."""
        deadline = time.monotonic() + 10
        while (state := self.depth(name)) != (0, 0):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{name} still has {state[0]} messages and {state[1]} consumers: "
                                   "not everything was acked")
            time.sleep(0.05)
        if dead := self.depth(DEAD_LETTER)[0]:
            raise RuntimeError(f"{dead} messages were dead-lettered")
