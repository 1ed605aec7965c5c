"""examples/crud-server, as a process, and a client that checks every answer."""
import collections
import http.client
import json
import re
from signal import SIGTERM
import subprocess
import time

from harness.openapi import OpenApi
from harness.waiting import wait
from harness.worker import OK, ROOT, Log, binary, environment, sanitizer_reports

SOURCE = ROOT / "examples/crud-server"
Answer = collections.namedtuple("Answer", "status headers text json")


class CrudServer:
    """Its storage is PostgreSQL where a database is given, else memory."""

    def __init__(self, directory, rabbitmq_url, database_url=None):
        self.directory = directory
        self.directory.mkdir()
        self.api = OpenApi(SOURCE / "openapi.yaml")
        self.env = {"RABBITMQ_URL": rabbitmq_url}
        if database_url:
            self.env["DATABASE_URL"] = database_url
        self.log = Log(directory / "log")
        self.process = self.port = self.connection = None
        self.used_at = 0

    @property
    def program(self):
        return binary().parent / "examples/crud-server/crud-server"

    def run(self, *arguments, env=None):
        """Another one, which ends by itself."""
        return subprocess.run([self.program, *arguments], text=True, capture_output=True,
                              timeout=30, check=False, stdin=subprocess.DEVNULL,
                              env=environment(self.directory, env))

    def start(self):
        self.close_connection()
        told = len(self.log.text())
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(
                [self.program, "--listen", "127.0.0.1:0"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory,
                env=environment(self.directory, self.env))
        match = wait("its address in the log", lambda: self.process.poll() is not None or re.search(
            r"http://127\.0\.0\.1:(\d+)", self.log.text()[told:]))
        assert self.process.poll() is None, self.log.text()
        self.port = int(match[1])
        return self

    def request(self, method, address, body=None, check=True, **headers):
        """A body that is not text or bytes goes as JSON. Keeps one connection open."""
        if body is not None and not isinstance(body, (str, bytes)):
            body = json.dumps(body)
        if isinstance(body, str):
            body = body.encode()
        if time.monotonic() - self.used_at > 5:  # the server closes those that are idle
            self.close_connection()
        self.used_at = time.monotonic()
        if self.connection is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            self.connection.request(method, address, body, headers)
            response = self.connection.getresponse()
            text = response.read().decode()
        except (OSError, http.client.HTTPException):
            self.close_connection()
            raise
        answer = Answer(response.status, response.headers, text,
                        json.loads(text) if text else None)
        if check:
            self.api.check(method, address, answer)
        return answer

    def close_connection(self):
        if self.connection is not None:
            self.connection.close()
        self.connection = None

    def create(self, name, **members):
        answer = self.request("POST", "/items", {"name": name, **members})
        assert answer.status == 201, answer.text
        return answer.json

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.close_connection()

    def stop(self):
        """The orderly end."""
        self.close_connection()
        if self.process is None or self.process.returncode is not None:
            return
        self.process.send_signal(SIGTERM)
        try:
            code = self.process.wait(40)
        finally:
            self.process.kill()
            self.process.wait()
        reports = sanitizer_reports(self.directory, self.log.text())
        assert not reports, reports[0]
        assert code == OK, self.log.text()[-2000:]
