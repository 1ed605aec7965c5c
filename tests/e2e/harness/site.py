"""What one test, or one file of tests, has to itself: an exchange, queues, a dead-letter queue, a
database, a Redis key, a folder of handlers."""
import itertools
import json
import os
import shutil
import uuid

import psycopg2

from harness import lua
from harness.waiting import wait
from harness.worker import OK, Worker, plugin, run_leveret

# mark() keeps a record that no rollback takes back, with the time that Redis's clock shows.
PRELUDE = """\
local MARKS = %s
local function mark(event, ctx, note)
  local now = ctx.redis.time()
  ctx.redis.rpush(MARKS, ctx.json.encode({
    id = event.id, type = event.type, attempt = event.attempt, queue = event.queue,
    at_us = math.tointeger(tonumber(now[1]) * 1000000 + tonumber(now[2])), note = note,
  }))
end
"""
RUNS = """
create table runs (
    number bigserial primary key, event_id text, type text, queue text, attempt int, note text)
"""
numbers = itertools.count(1)


def connect(url):
    connection = psycopg2.connect(url, connect_timeout=10)
    connection.autocommit = True
    return connection


class Site:
    def __init__(self, services, broker, redis, template, directory):
        self.services = services
        self.broker = broker
        self.redis = redis
        self.directory = directory
        self.prefix = f"e2e{os.getpid()}-{next(numbers)}"
        self.exchange = self.prefix + ".events"
        self.dead_letter = self.prefix + ".dlq"
        self.marks_key = self.prefix + ":marks"
        self.handlers = directory / "handlers"
        self.handlers.mkdir()
        self.queues = set()
        self.workers = []
        self._connection = None
        self.database_name = self.prefix.replace("-", "_")
        self.database_url = services.database(self.database_name)
        if template:
            self.admin_sql(f'create database "{self.database_name}" template "{template}"')

    # its database

    def admin_sql(self, sql):
        connection = connect(self.services.database("postgres"))
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql)
        finally:
            connection.close()

    def rows(self, sql, *parameters):
        """What the database answers, as tuples; [] for a statement without rows. Asks once more
        when the server went away meanwhile."""
        for last in (False, True):
            if self._connection is None or self._connection.closed:
                self._connection = connect(self.database_url)
            try:
                with self._connection.cursor() as cursor:
                    cursor.execute(sql, parameters or None)
                    return cursor.fetchall() if cursor.description else []
            except (psycopg2.OperationalError, psycopg2.InterfaceError):
                self._connection.close()
                if last:
                    raise
        return []

    def ledger(self):
        """(queue, type, id) of every row."""
        return self.rows("select queue, event_type, event_id from processed_events order by 1,2,3")

    def runs(self, columns="event_id"):
        return self.rows(f"select {columns} from runs order by number")

    # its handlers and configuration

    def queue(self, name):
        return f"{self.prefix}.{name}"

    def handler(self, name, body, prelude="", **options):
        """Writes handlers/NAME.lua with a queue of its own, unless the options name another."""
        options.setdefault("queue", self.queue(name))
        self.queues.add(options["queue"])
        rows = "".join(f"  {key} = {lua.write(value)},\n" for key, value in options.items())
        text = (PRELUDE % lua.text(self.marks_key) + prelude + "return {\n" + rows +
                "  handle = function(event, ctx)\n" + body + "\n  end,\n}\n")
        return self.handler_file(name + ".lua", text)

    def handler_file(self, name, text):
        path = self.handlers / name
        path.write_text(text)
        return path

    def plugin(self, name, *queues, handler=None):
        """Puts a plugin of tests/plugins into the folder, as NAME.so or under another name."""
        self.queues.update(queues)
        path = self.handlers / f"{handler or name}.so"
        shutil.copy(plugin(name), path)
        return path

    def config(self, **changes):
        """The configuration's values; a change that is a table is merged, None takes one out."""
        values = {
            "name": self.prefix,
            "rabbitmq": {"url": self.services.rabbitmq_url, "exchange": self.exchange},
            "postgres": {"url": self.database_url},
            "redis": {"url": self.services.redis_url},
            "handlers": [str(self.handlers)],
            "dead_letter": {"queue": self.dead_letter},
            "admin": {"listen": "127.0.0.1:0"},
            "log": {"level": "debug", "format": "json"},
            "shutdown_timeout_ms": 3000,
        }
        for key, change in changes.items():
            if isinstance(change, dict):
                change = {**values.get(key, {}), **change}
                change = {name: item for name, item in change.items() if item is not None}
            values[key] = change
        return {key: value for key, value in values.items() if value is not None}

    def write_config(self, **changes):
        path = self.directory / f"leveret-{next(numbers)}.lua"
        path.write_text(lua.configuration(self.config(**changes)))
        return path

    def worker(self, env=None, ready=True, under=(), arguments=(), **changes):
        """Starts a worker. Waits until it consumes from every queue, unless ready is false."""
        worker = Worker(self.directory / f"worker-{next(numbers)}", self.write_config(**changes),
                        env, under, arguments)
        self.workers.append(worker)
        worker.start()
        if ready:
            worker.wait_ready()
            for queue in self.queues:
                wait(f"a consumer of {queue}", lambda name=queue: self.broker.consumers(name))
        return worker

    def leveret(self, *arguments, **options):
        return run_leveret(self.directory, *arguments, **options)

    # its events

    def publish(self, event_type, payload=None, *, queue=None, confirm=True, **properties):
        """Publishes {event, payload} to the exchange, or straight to a queue. Returns the id; an
        explicit message_id=None sends none."""
        properties.setdefault("message_id", str(uuid.uuid4()))
        properties.setdefault("content_type", "application/json")
        body = json.dumps({"event": event_type, "payload": payload})
        exchange, key = (self.exchange, event_type) if queue is None else ("", queue)
        self.broker.publish(exchange, key, body, confirm=confirm, **properties)
        return properties["message_id"]

    def marks(self, **fields):
        """What handlers noted through mark(), oldest first."""
        marks = map(json.loads, self.redis.lrange(self.marks_key, 0, -1))
        return [mark for mark in marks
                if all(mark.get(key) == value for key, value in fields.items())]

    def wait_marks(self, count, timeout_s=30, **fields):
        wait(f"{count} marks {fields or ''}",
             lambda: len(self.marks(**fields)) >= count, timeout_s)
        marks = self.marks(**fields)
        assert len(marks) == count
        return marks

    def dead(self, timeout_s=30):
        """Takes the next dead letter."""
        return wait("a dead letter", lambda: self.broker.get(self.dead_letter), timeout_s)

    def assert_settled(self, worker):
        """Nothing is left: nothing in flight, and nothing unacked that comes back at the end."""
        worker.wait_idle()
        worker.stop()
        left = {name: self.broker.depth(name) for name in self.queues}
        assert not any(left.values()), f"left in the queues: {left}"

    # its beginning and end

    def migrate(self, url=None):
        path = self.write_config(postgres={"url": url or self.database_url})
        result = self.leveret("migrate", "-c", path)
        assert result.returncode == OK, result.stdout + result.stderr
        return result

    def stop_workers(self):
        errors = []
        for worker in self.workers:
            try:
                worker.stop()
            except AssertionError as error:
                errors.append(str(error))
        assert not errors, "\n".join(errors)

    def close(self):
        try:
            self.stop_workers()
        finally:
            self.broker.delete(*self.queues, self.dead_letter)
            self.broker.delete_exchange(self.exchange)
            self.redis.delete(self.marks_key)
            if self._connection is not None:
                self._connection.close()
            self.admin_sql(f'drop database if exists "{self.database_name}" with (force)')
