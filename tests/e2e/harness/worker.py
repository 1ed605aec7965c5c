"""The program under test, as a process."""
import json
import os
import pathlib
import re
from signal import SIGABRT, SIGTERM
import subprocess
import urllib.error
import urllib.request

from harness.prometheus import Metrics
from harness.waiting import wait

ROOT = pathlib.Path(__file__).resolve().parents[3]
OK, USAGE, NO_INPUT, UNAVAILABLE, CONFIG, INTERRUPTED = 0, 64, 66, 69, 78, 130
SANITIZER_EXIT = 99
SANITIZER_REPORT = re.compile(
    r"(?:Address|Leak|Thread|Memory)Sanitizer|runtime error:|DEADLYSIGNAL")


def binary():
    path = pathlib.Path(os.environ.get("LEVERET_BIN", ROOT / "build/asan/leveret"))
    return path if path.is_absolute() else ROOT / path


def sanitized():
    """Whether the program has a sanitizer in it."""
    return re.search(rb"__(asan|tsan|msan)_init", binary().read_bytes()) is not None


def plugin(name):
    """A plugin of tests/plugins, built beside the program."""
    return binary().parent / "tests/plugins" / f"{name}.so"


def environment(directory, extra=None):
    """A small one: a stray LEVERET_ variable would be a configuration error. An ASAN_OPTIONS in
    `extra` comes behind those that every worker has."""
    extra = dict(extra or {})
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TZ") if name in os.environ}
    log = f"log_path={directory}/sanitizer:exitcode={SANITIZER_EXIT}"
    more = extra.pop("ASAN_OPTIONS", None)
    kept["ASAN_OPTIONS"] = log + ":detect_leaks=1" + (f":{more}" if more else "")
    kept["UBSAN_OPTIONS"] = log + ":print_stacktrace=1"
    kept["TSAN_OPTIONS"] = log
    suppressions = ROOT / "tests/tsan.supp"
    if suppressions.exists():
        kept["TSAN_OPTIONS"] += f":suppressions={suppressions}"
    kept.update(extra)
    return kept


def sanitizer_reports(directory, *texts):
    files = pathlib.Path(directory).glob("sanitizer*")
    found = [path.read_text(errors="replace") for path in files]
    return found + [text for text in texts if SANITIZER_REPORT.search(text)]


def run_leveret(directory, *arguments, env=None, stdin="", timeout_s=60):
    """Runs a command to its end."""
    result = subprocess.run([binary(), *map(str, arguments)], input=stdin, text=True,
                            capture_output=True, timeout=timeout_s, check=False, cwd=directory,
                            env=environment(directory, env))
    reports = sanitizer_reports(directory, result.stdout, result.stderr)
    assert not reports, reports[0]
    return result


def children(pid):
    try:
        return sorted(map(int, pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    except FileNotFoundError:
        return []


def alive(pid):
    """Also one whose first thread is gone and whose others are not yet: it holds its files."""
    try:
        return any(_state(thread) not in "ZX"
                   for thread in pathlib.Path(f"/proc/{pid}/task").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return False


def _state(thread):
    try:
        return (thread / "stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def _processor_s(pid):
    """User and system time, the 12th and 13th field behind the name."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Log:
    """What a worker wrote, read again when asked for."""

    def __init__(self, *paths):
        self.paths = paths

    def text(self):
        return "".join(path.read_text(errors="replace") for path in self.paths if path.exists())

    def records(self, pattern="", **fields):
        """The JSON lines whose text fits the pattern and that have these fields."""
        found = []
        for line in self.text().splitlines():
            if not line.startswith("{"):
                continue
            try:
                record = json.loads(line)
            except ValueError:  # a line that is being written
                continue
            if all(record.get(key) == value for key, value in fields.items()) and \
                    re.search(pattern, line):
                found.append(record)
        return found


class Worker:
    def __init__(self, directory, config_path, env=None, under=(), arguments=()):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir()
        self.config_path = config_path
        self.env = env
        self.under = under  # a command that runs it
        self.arguments = arguments
        self.process = None
        self.admin_port = None
        self.log = Log(self.directory / "stdout", self.directory / "stderr")

    def start(self):
        with open(self.directory / "stdout", "ab") as out, \
                open(self.directory / "stderr", "ab") as err:
            self.process = subprocess.Popen(
                [*self.under, binary(), "run", "-c", self.config_path, *self.arguments],
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=self.directory,
                env=environment(self.directory, self.env), start_new_session=True)
        return self

    # its end

    def signal(self, number):
        self.process.send_signal(number)

    def lanes(self):
        """The processes that do the work, the first one first."""
        return children(self.process.pid)

    def processor_s(self):
        """What the lanes have taken of the processors until now."""
        return sum(map(_processor_s, self.lanes()))

    def wait(self, timeout_s=30):
        return self.process.wait(timeout_s)

    def running(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """The end that no program can prepare for. The kernel takes its lanes along, a moment later."""
        lanes = self.lanes()
        self.process.kill()
        self.wait()
        wait("the lanes to be gone", lambda: not any(map(alive, lanes)))
        self.process = None

    def stop(self, timeout_s=30, number=SIGTERM):
        """The orderly end, which every worker must be able to make."""
        if self.process is None:
            return
        if self.running():
            self.signal(number)
        try:
            code = self.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.signal(SIGABRT)
            self.wait()
            raise AssertionError(f"did not end within {timeout_s} s of signal {number}") from None
        finally:
            self.process = None
        self.check_sanitizers()
        assert code == OK, f"ended with {code}: {self.log.text()[-2000:]}"

    def check_sanitizers(self):
        reports = sanitizer_reports(self.directory, self.log.text())
        assert not reports, reports[0]

    # its admin pages

    def _find_admin_port(self):
        if not self.running():
            raise RuntimeError(f"the worker ended: {self.log.text()[-3000:]}")
        said = re.findall(r"metrics on http://127\.0\.0\.1:(\d+)/", self.log.text())
        return int(said[-1]) if said else None

    def get(self, path, timeout_s=10):
        """Status and text of an admin page."""
        if self.admin_port is None:
            self.admin_port = wait("the admin address in the log", self._find_admin_port)
        url = f"http://127.0.0.1:{self.admin_port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=timeout_s) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except urllib.error.URLError as error:
            return 0, str(error)

    def ready(self):
        return self.get("/readyz")[0] == 200

    def metrics(self):
        status, text = self.get("/metrics")
        assert status == 200, f"/metrics: {status} {text}"
        return Metrics(text)

    def metric(self, name, **labels):
        return self.metrics().sum(name, **labels)

    def outcomes(self, outcome, event=None):
        labels = {"outcome": outcome} if event is None else {"outcome": outcome, "event": event}
        return self.metric("leveret_events_total", **labels)

    def wait_ready(self, timeout_s=30):
        wait("/readyz", self.ready, timeout_s)
        return self

    def wait_outcomes(self, outcome, count, event=None, timeout_s=30):
        wait(f"{count} outcomes {outcome!r}",
             lambda: self.outcomes(outcome, event) >= count, timeout_s)
        assert self.outcomes(outcome, event) == count

    def wait_idle(self, timeout_s=30):
        """Until nothing is in its hands."""
        wait("nothing in flight", lambda: self.metric("leveret_in_flight") == 0, timeout_s)

    def wait_log(self, pattern, timeout_s=30, **fields):
        return wait(f"the log line {pattern!r} {fields or ''}",
                    lambda: self.log.records(pattern, **fields), timeout_s)[0]
