"""PgBouncer before PostgreSQL: by session all works, and any other pooling is refused."""
import os
import pathlib
import pwd
import shutil
from signal import SIGHUP
import subprocess
import tempfile
import uuid
from urllib.parse import urlsplit

import pytest

from harness.waiting import wait
from harness.worker import CONFIG, ROOT

PGBOUNCER = shutil.which("pgbouncer", path=os.environ["PATH"] + ":/usr/sbin")
REFUSAL = "must pool by session"

pytestmark = pytest.mark.skipif(not PGBOUNCER, reason="pgbouncer is not installed")


def settings(**changes):
    values = {"listen_addr": "127.0.0.1", "unix_socket_dir": "", "auth_type": "any",
              "pool_mode": "session", "default_pool_size": 20, "server_round_robin": 0,
              "server_login_retry": 1, "ignore_startup_parameters": "extra_float_digits"}
    values.update(changes)
    return values


def free_port():
    """Outside the range that the kernel gives to clients."""
    result = subprocess.run(["bash", "-c", '. "$0"; lvt_free_ports 1', ROOT / "tests/lib/common.sh"],
                            text=True, capture_output=True, check=True)
    return int(result.stdout)


class Pooler:
    """A private PgBouncer, which refuses to run as root."""

    def __init__(self, folder, services, port):
        self.folder = pathlib.Path(folder)
        self.server = urlsplit(services.database_url)
        self.port = port
        self.process = None

    def url(self, database):
        return f"postgresql://leveret@127.0.0.1:{self.port}/{database}"

    def write(self, **changes):
        rows = "".join(f"{key} = {value}\n" for key, value in settings(**changes).items())
        path = self.folder / "pgbouncer.ini"
        path.write_text(
            f"[databases]\n* = host=127.0.0.1 port={self.server.port} user={self.server.username} "
            f"password={self.server.password}\n[pgbouncer]\nlisten_port = {self.port}\n{rows}")
        return path

    def start(self, **changes):
        path = self.write(**changes)
        user = {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen([PGBOUNCER, path], stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, **(user if os.geteuid() == 0 else {}))
        wait("pgbouncer", lambda: f"listening on 127.0.0.1:{self.port}" in self.text()[self.begun:])
        return self

    begun = 0

    def text(self):
        return (self.folder / "log").read_text()

    def reload(self, **changes):
        self.write(**changes)
        seen = len(self.text())
        self.process.send_signal(SIGHUP)
        wait("its new settings", lambda: "got SIGHUP" in self.text()[seen:])

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.begun = len(self.text())
        self.process = None


@pytest.fixture
def pooler(services):
    with tempfile.TemporaryDirectory(prefix="leveret-pgbouncer-") as folder:
        os.chmod(folder, 0o755)  # it runs as another user
        mine = Pooler(folder, services, free_port())
        try:
            yield mine
        finally:
            mine.kill()


WRITES = """\
  mark(event, ctx)
  ctx.db.exec("insert into runs (event_id) values ($1)", event.id)
"""


def start(site, pooler, **changes):
    return site.worker(postgres={"url": pooler.url(site.database_name)}, **changes)


def assert_refused(site, worker):
    """At the start, with an exit code, before anything has run."""
    assert worker.wait(10) == CONFIG, worker.log.text()[-2000:]
    worker.process = None
    assert REFUSAL in worker.log.text()
    assert not site.marks()


def test_pooling_by_session_works(site, pooler):
    pooler.start()
    site.migrate(pooler.url(site.database_name))
    site.handler("work.done", WRITES)
    site.handler("work.slow", "ctx.db.query('select pg_sleep(30)')", timeout_ms=500,
                 retry={"max": 0})
    worker = start(site, pooler, lanes=2)
    ids = [site.publish("work.done", {}) for _ in range(30)]
    slow = site.publish("work.slow", {})
    worker.wait_outcomes("processed", len(ids))
    assert site.dead().properties.message_id == slow
    wait("its statement to be cancelled", lambda: site.rows(
        "select count(*) from pg_stat_activity where state = 'active' and query ~ 'pg_sleep'"
        " and pid <> pg_backend_pid() and datname = current_database()") == [(0,)])
    assert sorted(row[0] for row in site.runs()) == sorted(ids)
    pooler.kill()
    wait("it to be noticed", lambda: worker.get("/readyz")[0] == 503)
    late = site.publish("work.done", {})
    pooler.start()
    worker.wait_outcomes("processed", len(ids) + 1)
    assert site.runs()[-1] == (late,)
    site.assert_settled(worker)


@pytest.mark.parametrize("mode, size", [("transaction", 1), ("transaction", 20), ("statement", 20)])
def test_any_other_pooling_is_refused(site, pooler, mode, size):
    pooler.start(pool_mode=mode, default_pool_size=size)
    site.handler("work.done", WRITES)
    assert_refused(site, start(site, pooler, ready=False))


def test_sessions_that_are_not_cleared_are_refused(site, pooler):
    """A client that was killed leaves its locks in one."""
    pooler.start(server_reset_query="")
    site.handler("work.done", WRITES)
    start(site, pooler).kill()
    assert_refused(site, start(site, pooler, ready=False))


def test_another_mode_is_noticed_while_it_runs(site, pooler):
    """Two workers get the same events: what each writes is there once, and none is lost."""
    pooler.start()
    site.handler("work.done", WRITES)
    workers = [start(site, pooler) for _ in range(2)]
    ids = [site.publish("work.done", {}) for _ in range(10)]
    site.wait_marks(len(ids))
    pooler.reload(pool_mode="transaction")
    for _ in range(2):
        more = [str(uuid.uuid4()) for _ in range(20)]
        for event_id in more * 3:
            site.publish("work.done", {}, message_id=event_id)
        ids += more
    wait("each to notice", lambda: all(REFUSAL in worker.log.text() for worker in workers))
    pooler.kill()  # and with its connections the locks that are in them
    pooler.start()
    wait("all to be recorded", lambda: len(site.ledger()) == len(ids))
    assert sorted(row[0] for row in site.runs()) == sorted(ids)
    assert {mark["attempt"] for mark in site.marks()} == {1}
    wait("both to be well", lambda: all(worker.ready() for worker in workers))


def works_after(pooler, site, worker, **changes):
    pooler.reload(**changes)
    worker.wait_ready()
    site.publish("work.done", {})
    worker.wait_outcomes("processed", 1)
    site.assert_settled(worker)


def test_a_pool_without_room_is_told(site, pooler):
    pooler.start(default_pool_size=1, query_wait_timeout=1)
    site.handler("work.done", WRITES)
    worker = start(site, pooler, ready=False)
    worker.wait_log("has the pooler's pool_size room for it")
    works_after(pooler, site, worker, default_pool_size=20, server_idle_timeout=1)


def test_a_pooler_that_takes_no_more_clients_is_told(site, pooler):
    pooler.start(max_client_conn=1)
    site.handler("work.done", WRITES)
    worker = start(site, pooler, ready=False)
    worker.wait_log("no more connections allowed")
    works_after(pooler, site, worker, max_client_conn=100)
