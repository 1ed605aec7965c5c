"""Lanes, and the process that looks after them."""
import os
import pathlib
import re
import shutil
import socket
import subprocess
from signal import SIGHUP, SIGINT, SIGKILL, SIGSTOP, SIGTERM
import time

import pytest

from harness.waiting import wait
from harness.worker import CONFIG, ROOT, binary, children

LANES = 2


def gone(pid):
    return not os.path.exists(f"/proc/{pid}")


def lane_of(worker, pid):
    return worker.wait_log("leveret starts", pid=pid)["lane"]


def handle(site, **options):
    site.handler("work.done", "mark(event, ctx)\nctx.sleep(event.payload.ms or 0)",
                 events=["work.done"], **options)


@pytest.fixture
def worker(site):
    handle(site, prefetch=10, concurrency=5)
    return site.worker(lanes=LANES, state_dir=str(site.directory / "state"))


def test_lanes_share_the_work_and_their_counters_are_summed(site, worker):
    ids = [site.publish("work.done", {"ms": 50}) for _ in range(60)]
    worker.wait_outcomes("processed", len(ids))
    lanes = [record["lane"] for record in worker.log.records(text="processed")]
    assert set(lanes) == {1, 2} and len(lanes) == len(ids)
    assert worker.metric("leveret_lanes") == LANES
    wait("both consumers", lambda: worker.metric(
        "leveret_consumers", queue=site.queue("work.done")) == LANES)
    assert worker.metric("leveret_connected", to="postgres") == 1
    status, text = worker.get("/metrics.json")
    assert status == 200 and '"processed":60' in text
    assert worker.get("/livez")[0] == 200
    site.assert_settled(worker)


def test_what_dies_is_started_again_and_counters_never_go_down(site, worker):
    for _ in range(20):
        site.publish("work.done", {})
    worker.wait_outcomes("processed", 20)
    lane, other = worker.lanes()
    os.kill(lane, SIGKILL)
    started = time.monotonic()
    again = wait("another lane", lambda: [pid for pid in worker.lanes() if pid not in (lane, other)])
    assert time.monotonic() - started < 10  # a busy machine has other things to do as well
    assert worker.log.records(text="a lane died; it is started again")[0]["restart_ms"] <= 200
    assert worker.metric("leveret_lane_restarts_total") == 1
    assert worker.outcomes("processed") == 20
    worker.wait_ready()
    assert set(worker.lanes()) == {other, *again}
    record = worker.wait_log("a lane died")
    assert record["death"] == "SIGKILL" and record["restart_ms"] <= 200
    site.publish("work.done", {})
    worker.wait_outcomes("processed", 21)
    site.assert_settled(worker)


def test_lanes_are_started_again_where_sigchld_is_ignored(site):
    """As some programs do that start others; the kernel then tells nobody of their end."""
    handle(site)
    worker = site.worker(under=["env", "--ignore-signal=CHLD"])
    [lane] = worker.lanes()
    os.kill(lane, SIGKILL)
    wait("another lane", lambda: [pid for pid in worker.lanes() if pid != lane])
    site.assert_settled(worker)


def test_the_logs_reader_may_end_first(site):
    handle(site)
    fifo = site.directory / "log"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    worker = site.worker(under=["sh", "-c", f'exec "$@" 2>{fifo}', "sh"], ready=False)
    wait("a consumer", lambda: site.broker.consumers(site.queue("work.done")))
    [lane] = worker.lanes()
    os.close(reader)
    os.kill(lane, SIGKILL)  # which its supervisor wants to log
    site.publish("work.done", {})
    site.wait_marks(1)
    assert worker.running() and lane not in worker.lanes()
    worker.stop()


def test_standard_files_that_are_closed_stay_empty(site):
    """The next file to be opened would have the log written into it."""
    handle(site)
    worker = site.worker(under=["sh", "-c", 'exec "$@" <&- 2>&-', "sh"], ready=False)
    wait("a consumer", lambda: site.broker.consumers(site.queue("work.done")))
    for pid in [worker.process.pid, *worker.lanes()]:
        assert [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 2)] == ["/dev/null"] * 2
    worker.stop()


def test_a_lane_that_does_not_answer_is_left_out(site, worker):
    lane, _ = worker.lanes()
    os.kill(lane, SIGSTOP)
    wait("one lane", lambda: worker.metric("leveret_lanes") == LANES - 1)
    status, text = worker.get("/readyz")
    assert status == 503 and re.match(r"lane \d: it does not answer", text)
    assert worker.get("/livez")[0] == 200  # for its grace period
    os.kill(lane, SIGKILL)
    wait("both lanes", lambda: worker.metric("leveret_lanes") == LANES)


def test_lanes_do_not_outlive_their_supervisor(worker):
    lanes = worker.lanes()
    worker.kill()
    for pid in lanes:
        wait("its end", lambda pid=pid: gone(pid), 5)


def test_a_signal_to_the_whole_group_is_orderly(site, worker):
    """As a terminal's Ctrl-C and systemd's KillMode=control-group have it."""
    ids = [site.publish("work.done", {"ms": 300}) for _ in range(10)]
    wait("them to be under way", lambda: len(site.marks()) == len(ids))
    os.killpg(worker.process.pid, SIGINT)
    assert worker.wait() == 0
    worker.process = None
    assert len(site.ledger()) == len(ids)
    assert not worker.log.records("a lane died")


def test_a_second_signal_ends_all_at_once(site, worker):
    site.publish("work.done", {"ms": 20000})
    wait("it to be under way", lambda: len(site.marks()) == 1)
    lanes = worker.lanes()
    worker.signal(SIGTERM)
    worker.wait_log("shutdown: finishing")
    worker.signal(SIGTERM)
    assert worker.wait(5) == -SIGTERM
    worker.process = None
    for pid in lanes:
        wait("its end", lambda pid=pid: gone(pid), 5)


def test_what_is_wrong_is_said_once(site):
    handle(site)
    site.handler_file("bad.event.lua", "return 7")
    worker = site.worker(ready=False, lanes=4)
    assert worker.wait() == CONFIG
    worker.process = None
    lines = worker.log.text().splitlines()
    assert len(lines) == 1 and "bad.event.lua" in lines[0], lines


def test_a_lane_that_cannot_be_started_again_leaves_the_others_at_work(site, worker):
    """As with a handler's file whose change was refused: they have the version before it."""
    path = site.handlers / "work.done.lua"
    good = path.read_text()
    worker.wait_log("ready: consuming", lane=2)
    path.write_text("return 7")
    worker.wait_log("the version before it goes on serving", lane=1)
    lane, other = worker.lanes()
    os.kill(lane, SIGKILL)
    assert "must return a function" in worker.wait_log("a lane gave up")["reason"]
    site.publish("work.done", {})
    worker.wait_outcomes("processed", 1)
    assert other in worker.lanes()
    path.write_text(good)
    worker.wait_ready()
    site.assert_settled(worker)


def test_sighup_reaches_every_lane(worker):
    worker.signal(SIGHUP)
    for lane in (1, 2):
        worker.wait_log("reload: comparing", lane=lane)


def test_a_lanes_line_is_not_for_what_it_starts(worker):
    for lane in worker.lanes():
        flags = re.search(r"flags:\s*(\d+)", pathlib.Path(f"/proc/{lane}/fdinfo/3").read_text())[1]
        assert os.readlink(f"/proc/{lane}/fd/3").startswith("socket:")
        assert int(flags, 8) & os.O_CLOEXEC


def test_one_lane_is_not_numbered(site):
    handle(site)
    worker = site.worker()
    site.publish("work.done", {})
    assert "lane" not in worker.wait_log("processed")
    assert len(worker.lanes()) == 1


def test_without_a_supervisor(site):
    handle(site)
    worker = site.worker(arguments=["--no-supervisor"])
    assert worker.lanes() == []
    site.publish("work.done", {})
    worker.wait_outcomes("processed", 1)
    site.assert_settled(worker)


def can_unshare():
    return shutil.which("unshare") and \
        subprocess.run(["unshare", "-pf", "true"], check=False).returncode == 0


@pytest.mark.skipif(not can_unshare(), reason="no new PID namespace may be made here")
def test_as_pid_1_it_reaps(site):
    handle(site)
    under = ["unshare", "-pf", "--kill-child", "sh", "-c", "(sleep 0.5 &) ; exec \"$@\"", "sh"]
    worker = site.worker(under=under)
    [first] = children(worker.process.pid)
    wait("the orphan to be reaped", lambda: len(children(first)) == 1)
    os.kill(first, SIGTERM)
    assert worker.wait() == 0
    worker.process = None


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_notified(site, abstract):
    handle(site)
    path = "\0" + site.prefix if abstract else str(site.directory / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(path)
        systemd.settimeout(20)

        def expect(line):
            while True:
                lines = systemd.recv(4096).decode().split("\n")
                if line in lines:
                    return lines

        worker = site.worker(ready=False, lanes=LANES, env={
            "NOTIFY_SOCKET": path.replace("\0", "@"), "WATCHDOG_USEC": "1000000"})
        expect("READY=1")
        expect("WATCHDOG=1")
        worker.signal(SIGHUP)
        lines = expect("RELOADING=1")
        usec = next(line for line in lines if line.startswith("MONOTONIC_USEC="))
        assert 0 < int(usec.split("=")[1]) <= time.monotonic_ns() // 1000
        expect("READY=1")
        worker.signal(SIGTERM)
        expect("STOPPING=1")
        assert worker.wait() == 0
        worker.process = None


def test_a_reload_ends_although_a_lane_dies_meanwhile(site):
    handle(site)
    path = str(site.directory / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(path)
        systemd.settimeout(20)

        def expect(line):
            while line not in systemd.recv(4096).decode().split("\n"):
                pass

        worker = site.worker(lanes=LANES, env={"NOTIFY_SOCKET": path})
        expect("READY=1")
        lane, _ = worker.lanes()
        os.kill(lane, SIGSTOP)
        worker.signal(SIGHUP)
        expect("RELOADING=1")
        os.kill(lane, SIGKILL)
        expect("READY=1")
        # One that is not yet able to take the signal is told again.
        again = set(worker.lanes())
        os.kill(worker.lanes()[0], SIGKILL)
        while not (new := set(worker.lanes()) - again):
            pass
        worker.signal(SIGHUP)
        expect("RELOADING=1")
        expect("READY=1")
        pid = new.pop()
        wait("its reload", lambda: worker.log.records("reload: comparing", lane=lane_of(worker, pid)))


def test_a_reload_does_not_make_it_ready(site, closed_port):
    handle(site)
    path = str(site.directory / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(path)
        systemd.settimeout(20)
        worker = site.worker(ready=False, env={"NOTIFY_SOCKET": path},
                             rabbitmq={"url": f"amqp://127.0.0.1:{closed_port}/"})
        worker.wait_log("metrics on")
        worker.signal(SIGHUP)
        worker.wait_log("reload: comparing")
        time.sleep(0.5)  # the supervisor looks four times a second
        worker.signal(SIGTERM)
        assert "STOPPING=1" in systemd.recv(4096).decode()
        assert worker.wait() == 0
        worker.process = None


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_the_unit_file_is_in_order(tmp_path):
    unit = (ROOT / "examples/leveret.service").read_text()
    assert "/usr/local/bin/leveret " in unit
    path = tmp_path / "leveret.service"
    path.write_text(unit.replace("/usr/local/bin/leveret ", f"{binary()} "))
    for command in (["verify", "--man=no"], ["security", "--offline=yes", "--threshold=20"]):
        result = subprocess.run(["systemd-analyze", *command, path], text=True, timeout=60,
                                capture_output=True, check=False)
        assert result.returncode == 0, result.stdout[-2000:] + result.stderr
        assert "leveret.service:" not in result.stderr
