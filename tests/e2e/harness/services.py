"""The three servers, through tests/services.sh."""
import contextlib
import pathlib
import shlex
import subprocess
from urllib.parse import urlsplit

from harness.waiting import wait

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "services.sh"
NAMES = ("rabbitmq", "postgres", "redis")
LADDER = [f"leveret.delay.{level:02}" for level in range(24)]  # the queues that retries wait in


class Services:
    def __init__(self, directory):
        self.directory = pathlib.Path(directory)

    def run(self, verb, *arguments, timeout_s=180):
        result = subprocess.run([SCRIPT, verb, self.directory, *arguments], timeout=timeout_s,
                                text=True, stdin=subprocess.DEVNULL, capture_output=True,
                                check=False)
        assert result.returncode == 0, f"services.sh {verb}: {result.stdout}{result.stderr}"
        return result.stdout

    def environment(self):
        values = {}
        for line in self.run("env").splitlines():
            for word in shlex.split(line):
                name, equals, value = word.partition("=")
                if equals:
                    values[name] = value
        return values

    def pid(self, name):
        return int(self.environment()[name.upper() + "_PID"])

    def load(self):
        """Reads the addresses of a set that has been started."""
        values = self.environment()
        self.rabbitmq_url = values["RABBITMQ_URL"]
        self.database_url = values["DATABASE_URL"]
        self.redis_url = values["REDIS_URL"]
        self.rabbitmq_tls_port = int(values["RABBITMQ_TLS_PORT"])
        self.tls = pathlib.Path(values["TLS_DIR"])
        return self

    def port(self, name):
        return urlsplit({"rabbitmq": self.rabbitmq_url, "postgres": self.database_url,
                         "redis": self.redis_url}[name]).port

    def database(self, name):
        """The URL of another database of the same server."""
        return urlsplit(self.database_url)._replace(path="/" + name).geturl()

    def stop(self, name):
        self.run("stop-" + name)

    def kill(self, name):
        self.run("kill-" + name)

    def wait_for_directory(self, *queues):
        """RabbitMQ 3.10 writes the directory of its quorum queues with a delay: a queue created in
        the last half second before a SIGKILL comes back without a leader and without its messages.
        Waits until these queues are in it."""
        def registered():
            tables = self.directory.glob("rabbitmq/mnesia/*/quorum/*/names.dets")
            data = b"".join(path.read_bytes() for path in tables)
            return all(queue.encode() in data for queue in queues)

        wait("RabbitMQ's directory of quorum queues", registered)

    def start(self, name):
        self.run("start-" + name)

    def permit(self, user, *, configure=".*", write=".*", read=".*"):
        """What a user of RabbitMQ, whose password is its name, may do; each a pattern of names. It is
        made when there is none of it."""
        if user not in self.run("rabbitmqctl", "list_users"):
            self.run("rabbitmqctl", "add_user", user, user)
        self.run("rabbitmqctl", "set_permissions", user, configure, write, read)

    @contextlib.contextmanager
    def alarm(self, kind="memory"):
        """RabbitMQ takes no messages meanwhile."""
        verb = {"memory": "alarm", "disk": "disk-alarm"}[kind]
        self.run(verb + "-on")
        try:
            yield
        finally:
            self.run(verb + "-off")

    def start_all(self):
        for name in NAMES:
            self.start(name)
