"""A standby of PostgreSQL that every commit waits for, and that can be promoted."""
import contextlib
import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import tempfile
from urllib.parse import urlsplit

import psycopg2

from harness.waiting import wait


def programs():
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(
        path.parent.name))
    return found[-1]


def run_as():
    """PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    entry = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def ask(url, sql):
    with contextlib.closing(psycopg2.connect(url, connect_timeout=5)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else None


def wait_for_standbys(url, names):
    ask(url, f"alter system set synchronous_standby_names = '{names}'")
    ask(url, "select pg_reload_conf()")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Standby:
    def __init__(self, services):
        self.services = services
        self.primary = urlsplit(services.database_url)
        self.port = free_port()
        self.who = run_as()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="leveret-standby-", dir="/var/tmp"))
        if self.who:
            os.chown(self.folder, self.who["user"], self.who["group"])
        self.data = self.folder / "data"
        self.process = None

    def _run(self, program, *arguments):
        subprocess.run([programs() / program, *map(str, arguments)], check=True, timeout=60,
                       cwd="/", stdin=subprocess.DEVNULL, capture_output=True, **self.who,
                       env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8",
                            "PGPASSWORD": self.primary.password})

    def start(self):
        """Returns when the primary waits for it at each commit."""
        self._run("pg_basebackup", "-D", self.data, "-R", "-X", "stream", "-c", "fast", "-h",
                  self.primary.hostname, "-p", self.primary.port, "-U", self.primary.username)
        with open(self.folder / "log", "wb") as log:
            self.process = subprocess.Popen(
                [programs() / "postgres", "-D", self.data, "-p", str(self.port)], stdout=log,
                stderr=log, stdin=subprocess.DEVNULL, cwd="/", env={"LC_ALL": "C.UTF-8"}, **self.who)
        url = self.services.database_url
        wait_for_standbys(url, "*")
        wait("a synchronous standby", lambda: ask(
            url, "select 1 from pg_stat_replication where sync_state = 'sync'"))

    def database(self, name):
        """The URL of a database of it."""
        host = self.primary.netloc.rpartition(":")[0]
        return self.primary._replace(netloc=f"{host}:{self.port}", path="/" + name).geturl()

    def promote(self):
        """Returns when it takes writes."""
        self._run("pg_ctl", "promote", "-w", "-D", self.data)

    def close(self):
        """Ends it; the primary is as it was."""
        self.services.start("postgres")
        wait_for_standbys(self.services.database_url, "")
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
