"""handlers/messaging and its plugins: mail, dumps, old files and rows, notifications."""
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import time
import uuid

import pytest

from harness.smtp import Authority, SmtpSink
from harness.waiting import wait
from harness.worker import CONFIG, OK, ROOT, binary, environment

QUEUES = {"email": "email_queue", "backup": "backup_queue", "cleanup": "cleanup_queue",
          "notification": "notification_queue"}
FAILED = "failed_queue"
PLUGINS = ("email", "backup", "cleanup")
DAY_S = 86400
openssl3 = subprocess.run(["openssl", "version"], capture_output=True, text=True,
                          check=False).stdout.startswith("OpenSSL 3")
pytestmark = pytest.mark.skipif(not openssl3, reason="needs OpenSSL 3's command")


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def make_sink(tmp_path_factory):
    with contextlib.ExitStack() as stack:
        def make(*options):
            sink = SmtpSink(tmp_path_factory.mktemp("sink"), *options)
            stack.callback(sink.close)
            return sink
        yield make


@pytest.fixture(scope="module")
def sink(make_sink, authority):
    """With STARTTLS and a login."""
    return make_sink("--cert", authority.cert, "--key", authority.key, "--login", "me:s3cret")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A root for dumps, one for old files, and a place that is neither."""
    base = tmp_path_factory.mktemp("folders")
    for name in ("backups/nightly", "logs/app", "outside"):
        (base / name).mkdir(parents=True)
    (base / "backups/way-out").symlink_to(base / "outside")
    (base / "logs/way-out").symlink_to(base / "outside")
    return base


def handler(**options):
    return {"retry": {"max": 1, "base_ms": 1}, **options}


def email_config(sink, authority, **changes):
    values = {"url": f"smtp://127.0.0.1:{sink.port}", "ca_file": str(authority.ca),
              "username": "me", "password": "s3cret", "from": "no-reply@example.org",
              "from_name": 'Grüße "von" uns', "hello": "worker.example.org",
              "handler": handler(), **changes}
    return {name: value for name, value in values.items() if value is not None}


@pytest.fixture(scope="module")
def plugins(shared, sink, authority, folders):
    """The configuration's table."""
    return {
        "email": email_config(sink, authority),
        "backup": {"roots": [str(folders / "backups")],
                   "databases": {"shop": shared.database_url,
                                 "nowhere": shared.database_url + "_not_there"},
                   "handler": handler()},
        "cleanup": {"targets": {"logs": {"path": str(folders / "logs") + "/"},
                                "sessions": {"table": "public.Old Sessions", "column": "seen at"}},
                    "handler": handler()},
    }


def install(site):
    for name in PLUGINS:
        shutil.copy(binary().parent / f"plugins/{name}.so", site.handlers)
    shutil.copy(ROOT / "handlers/messaging/notification.lua", site.handlers)


@pytest.fixture(scope="module")
def worker(shared, plugins):
    install(shared)
    shared.handler("ticket.lost", 'ctx.reject("as the test wants it")')
    shared.rows((ROOT / "handlers/messaging/notifications.sql").read_text())
    shared.rows('create table "Old Sessions" (name text, "seen at" timestamptz)')
    shared.queues.update(QUEUES.values())
    shared.broker.delete(FAILED, *QUEUES.values())
    yield shared.worker(plugins=plugins)
    shared.broker.delete(FAILED)


def send(site, kind, payload, **envelope):
    """In the envelope of the seed's service. Returns the id."""
    event_id = str(uuid.uuid4())
    body = {"id": event_id, "type": kind, "payload": payload, "max_attempts": 0, "delay": 0,
            "priority": 0, "created_at": "2026-01-01T12:00:00Z", **envelope}
    site.broker.publish("", QUEUES[kind], json.dumps(body))
    return event_id


def handled(site, worker, kind, payload, **envelope):
    """Sends it, and waits until it is done."""
    event_id = send(site, kind, payload, **envelope)
    record = worker.wait_log("processed|dead-lettered", id=event_id, handler=kind)
    assert "processed" in record["text"], record
    return event_id


def letter_of(site, event_id):
    def look():
        return [letter for letter in site.broker.drain(FAILED)
                if json.loads(letter.body).get("id") == event_id]
    return wait(f"the dead letter of {event_id}", look)[0]


def refused(site, worker, kind, payload):
    """Sends it, and returns the error of its dead letter and the attempts made."""
    letter = letter_of(site, send(site, kind, payload))
    assert json.loads(letter.body)["payload"] == payload
    assert letter.header("leveret-origin-queue") == QUEUES[kind]
    return letter.header("leveret-error"), letter.header("leveret-attempt")


def assert_rejected(site, worker, kind, payload, text):
    """At the first attempt."""
    error, attempt = refused(site, worker, kind, payload)
    assert text in error
    assert attempt == 1


# mail

MAIL = {"subject": "Subject", "body": "Body", "html": "<html>Body</html>"}


def mail_of(sink, address):
    mails = wait(f"a mail to {address}", lambda: sink.mails(address))
    assert len(mails) == 1
    return mails[0]


def test_a_mail_has_both_its_parts(shared, worker, sink):
    event_id = handled(shared, worker, "email", {"to": "user@example.com", **MAIL})
    mail = mail_of(sink, "user@example.com")
    assert mail.tls and mail.login == "me"
    assert mail.hello == "worker.example.org"
    assert mail.sender == "no-reply@example.org"
    assert mail.message["subject"] == "Subject"
    assert mail.message["to"] == "user@example.com"
    assert mail.message["from"].addresses[0].display_name == 'Grüße "von" uns'
    assert mail.message["message-id"] == f"<{event_id}@example.org>"
    assert mail.message["date"].datetime.timestamp() == pytest.approx(time.time(), abs=60)
    assert mail.message.get_content_type() == "multipart/alternative"
    assert [(kind, text.strip()) for kind, text in mail.parts()] == [
        ("text/plain", "Body"), ("text/html", "<html>Body</html>")]


def test_a_mail_arrives_as_it_was_written(shared, worker, sink):
    subject = "Größe und Wünsche: ünïcödé, 日本語, 🐇 " * 6 + "=?x?"
    body = ".\r\n..two dots\n= sign, trailing \n\ttab\t\nFrom here\n" + "é🐇" * 30 + "\nend"
    handled(shared, worker, "email", {"to": "o'neil+tag@example.com", "subject": subject,
                                      "body": body})
    mail = mail_of(sink, "o'neil+tag@example.com")
    assert all(len(line) <= 78 for line in mail.raw.split("\r\n"))
    assert mail.raw.isascii()
    assert mail.message["subject"] == subject
    assert mail.parts() == [("text/plain", body.replace("\r\n", "\n") + "\n")]


def test_html_alone_is_a_mail(shared, worker, sink):
    handled(shared, worker, "email", {"to": "html@example.com", "subject": "", "body": "",
                                      "html": "<p>ü</p>"})
    assert mail_of(sink, "html@example.com").parts() == [("text/html", "<p>ü</p>\n")]


def test_a_refusal_for_now_is_tried_again(shared, worker, sink):
    handled(shared, worker, "email", {"to": "later@example.com", **MAIL})
    mail_of(sink, "later@example.com")
    error, attempt = refused(shared, worker, "email", {"to": "busy@example.com", **MAIL})
    assert "451 4.3.2 come back later" in error
    assert attempt == 2


@pytest.mark.parametrize("name, answer", [("nobody", "550 5.1.1 no such user here"),
                                          ("spam", "554 5.7.1 that is spam")])
def test_a_refusal_for_good_is_final(shared, worker, name, answer):
    assert_rejected(shared, worker, "email", {"to": f"{name}@example.com", **MAIL}, answer)


@pytest.mark.parametrize("changes, text", [
    ({"to": "user@example.com\r\nBcc: all@example.com"}, "to has a line break"),
    ({"to": "user@example.com\n"}, "to has a line break"),
    ({"to": "user@example.com\x00"}, "to has a NUL character"),
    ({"to": "user@example.com> SIZE=1"}, "to is no mail address"),
    ({"to": "a@b.example,c@d.example"}, "to is no mail address"),
    ({"to": "user"}, "to is no mail address"),
    ({"to": "@example.com"}, "to is no mail address"),
    ({"to": "x" * 65 + "@example.com"}, "to is no mail address"),
    ({"to": "jürgen@example.com"}, "in ASCII"),
    ({"to": ["user@example.com"]}, "to is not a text"),
    ({"to": None}, "to is not a text"),
    ({"subject": "Hello\r\nX-Evil: yes"}, "subject has a line break"),
    ({"subject": "Hello\nworld"}, "subject has a line break"),
    ({"subject": "Hello\x1bworld"}, "subject has a control character"),
    ({"subject": "x" * 999}, "longer than 998 bytes"),
    ({"subject": 7}, "subject is not a text"),
    ({"body": "", "html": None}, "neither a body nor html"),
    ({"body": {"a": 1}}, "body is not a text"),
])
def test_a_mail_that_makes_no_sense_is_rejected(shared, worker, sink, changes, text):
    before = len(sink.mails())
    assert_rejected(shared, worker, "email", {"to": "user@example.com", **MAIL, **changes}, text)
    assert len(sink.mails()) == before


def test_a_payload_that_is_no_object_is_rejected(shared, worker):
    for kind in PLUGINS:
        assert_rejected(shared, worker, kind, [1], "missing")


@pytest.fixture
def mailer(make_site, make_sink):
    """Runs one mail through a worker of its own; returns what it came to."""
    site = make_site()

    def run(config):
        shutil.copy(binary().parent / "plugins/email.so", site.handlers)
        queue = site.queue("email")
        site.queues.add(queue)
        config["handler"] = handler(queue=queue, dead_letter=site.dead_letter)
        worker = site.worker(plugins={"email": config})
        site.broker.publish("", queue, json.dumps(
            {"id": "1", "type": "email", "payload": {"to": "user@example.com", **MAIL}}))
        record = worker.wait_log("processed|dead-lettered", id="1", handler="email")
        worker.stop()
        assert "s3cret" not in worker.log.text()
        return record.get("reason", "")
    yield run
    site.close()


def test_tls_from_the_first_byte(mailer, make_sink, authority):
    sink = make_sink("--cert", authority.cert, "--key", authority.key, "--implicit")
    assert mailer(email_config(sink, authority, url=f"smtps://127.0.0.1:{sink.port}",
                               username=None, password=None)) == ""
    assert mail_of(sink, "user@example.com").tls


def test_plaintext_only_where_it_is_asked_for(mailer, make_sink, authority):
    sink = make_sink()
    assert mailer(email_config(sink, authority, plaintext=True, username=None, password=None,
                               ca_file=None)) == ""
    assert not mail_of(sink, "user@example.com").tls


def test_a_server_without_tls_gets_no_mail(mailer, make_sink, authority):
    sink = make_sink()
    assert "TLS" in mailer(email_config(sink, authority))
    assert not sink.mails()


def test_a_server_that_nobody_vouches_for_gets_no_mail(mailer, sink, authority):
    before = len(sink.mails())
    assert "certificate" in mailer(email_config(sink, authority, ca_file=None))
    assert len(sink.mails()) == before


def test_a_wrong_password_is_no_fault_of_the_mail(mailer, sink, authority):
    reason = mailer(email_config(sink, authority, password="wrong s3cret"))
    assert "535" in reason


def test_a_missing_password_is_no_fault_of_the_mail(mailer, sink, authority):
    reason = mailer(email_config(sink, authority, username=None, password=None))
    assert "the mail server: " in reason and "530" in reason


@pytest.mark.parametrize("name, changes, text", [
    ("email", {"url": "http://127.0.0.1"}, "url must begin with smtp://"),
    ("email", {"url": "smtp://me:s3cret@127.0.0.1"}, "there are keys for username"),
    ("email", {"plaintext": True}, "a password is not sent without TLS"),
    ("email", {"from": "me"}, "from is no mail address"),
    ("email", {"from_name": "a\nb"}, "from_name has a line break"),
    ("email", {"sender": "me"}, 'unknown key "sender"'),
    ("email", {"url": 5}, "url is not a text"),
    ("backup", {"roots": []}, "roots names no folder"),
    ("backup", {"roots": ["backups"]}, "is no absolute path"),
    ("backup", {"roots": ["/"]}, "the root / would allow every folder"),
    ("backup", {"databases": {"a b": "postgresql:///x"}}, "the database's name has other"),
    ("backup", {"databases": {"x": "postgresql://s3cret:s3cret@[/"}}, "is no address such as"),
    ("cleanup", {"targets": {"x": {"path": "/x", "table": "y"}}}, "either a path, or a table"),
    ("cleanup", {"targets": {"x": {"path": "/"}}}, "more than /"),
    ("cleanup", {"targets": {"x": {"folder": "/x"}}}, 'targets.x: unknown key "folder"'),
    ("cleanup", {"dry_run": "yes"}, "dry_run must be a boolean"),
])
def test_a_wrong_configuration_is_refused(site, plugins, name, changes, text):
    shutil.copy(binary().parent / f"plugins/{name}.so", site.handlers)
    config = site.write_config(plugins={name: {**plugins[name], **changes}})
    result = site.leveret("check", "-c", config)
    assert result.returncode == CONFIG, result.stdout + result.stderr
    assert text in result.stderr and "s3cret" not in result.stderr + result.stdout


# dumps

def dump_of(folder, event_id):
    (file,) = folder.glob(f"*{event_id}.dump")
    return file


def contents(file):
    return subprocess.run(["pg_restore", "--file=-", file], check=True, capture_output=True,
                          text=True).stdout


def test_a_dump_can_be_read(shared, worker, folders):
    shared.rows("create table goods (name text); insert into goods select 'hare ' || repeat('x', "
                "1000) from generate_series(1, 100)")
    sizes = []
    for compress in (True, False):
        event_id = handled(shared, worker, "backup", {
            "database": "shop", "path": str(folders / "backups") + "/", "compress": compress})
        file = folders / f"backups/shop-{event_id}.dump"
        assert contents(file).count("hare x") == 100
        assert file.stat().st_mode & 0o777 == 0o600
        assert worker.wait_log("database dumped", id=event_id)["bytes"] == file.stat().st_size
        sizes.append(file.stat().st_size)
    assert sizes[0] < sizes[1] / 5
    assert not list((folders / "backups").glob(".*"))


def test_a_dump_in_a_folder_below(shared, worker, folders):
    event_id = handled(shared, worker, "backup",
                       {"database": "shop", "path": str(folders / "backups/nightly")})
    assert dump_of(folders / "backups/nightly", event_id)


@pytest.mark.parametrize("path, text", [
    ("{base}/outside", "outside the folders that the configuration allows"),
    ("{base}/backups-other", "outside the folders"),
    ("{base}/backups/../outside", '".." is not allowed'),
    ("{base}/backups/nightly/..", '".." is not allowed'),
    ("{base}/backups/way-out", "a symbolic link"),
    ("{base}/backups/way-out/deeper", "a symbolic link"),
    ("backups", "is no absolute path"),
    ("/", "outside the folders"),
    ("", "is no absolute path"),
    ("{base}/backups/\x00/etc", "has a NUL character"),
    ("{base}/backups/" + "x" * 300, "File name too long"),
])
def test_a_path_that_is_not_allowed_is_rejected(shared, worker, folders, path, text):
    assert_rejected(shared, worker, "backup", {
        "database": "shop", "path": path.format(base=folders), "compress": True}, text)
    assert not list((folders / "outside").iterdir())


@pytest.mark.parametrize("name", [
    "shop; rm -rf /", "$(touch /tmp/x)", "`id`", "shop|cat", "shop'--", "--file=/etc/passwd",
    "../shop", "shop\nx", "", "x" * 64, "host=evil dbname=shop", "postgresql://evil/shop"])
def test_a_database_with_an_odd_name_is_rejected(shared, worker, folders, name):
    assert_rejected(shared, worker, "backup", {
        "database": name, "path": str(folders / "backups"), "compress": True},
        "the database's name has")


def test_a_database_that_nobody_named_is_rejected(shared, worker, folders):
    assert_rejected(shared, worker, "backup", {
        "database": "postgres", "path": str(folders / "backups"), "compress": True},
        'the configuration\'s databases name no "postgres"')
    assert_rejected(shared, worker, "backup", {
        "database": "shop", "path": str(folders / "backups"), "compress": "yes"},
        "compress is not a boolean")


def test_a_dump_that_fails_leaves_nothing(shared, worker, folders):
    before = sorted((folders / "backups").iterdir())
    error, attempt = refused(shared, worker, "backup", {
        "database": "nowhere", "path": str(folders / "backups"), "compress": True})
    assert "pg_dump ended with 1" in error and "does not exist" in error
    assert attempt == 2
    assert sorted((folders / "backups").iterdir()) == before


def fake_program(path, text):
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return str(path)


def is_running(pid):
    """A zombie is not: nobody may be there to take notice of its end."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except FileNotFoundError:
        return False


def test_a_dump_that_takes_too_long_is_ended(site, folders, tmp_path):
    """With all that it has started; and it sees nothing of the worker's own environment."""
    pids = tmp_path / "pids"
    slow = fake_program(tmp_path / "slow", f"env >{tmp_path}/env\nsleep 300 &\n"
                                           f"echo $$ $! >{pids}.new; mv {pids}.new {pids}\nwait\n")
    shutil.copy(binary().parent / "plugins/backup.so", site.handlers)
    queue = site.queue("backup")
    site.queues.add(queue)
    worker = site.worker(env={"A_SECRET": "x"}, plugins={"backup": {
        "roots": [str(tmp_path)], "databases": {"shop": "postgresql://u:s3cret@h/x"},
        "pg_dump": slow, "handler": {"queue": queue, "dead_letter": site.dead_letter,
                                     "retry": {"max": 0}, "timeout_ms": 1500}}})
    site.broker.publish("", queue, json.dumps({"id": "1", "type": "backup", "payload": {
        "database": "shop", "path": str(tmp_path)}}))
    wait("the program", pids.exists)
    running = [int(pid) for pid in pids.read_text().split()]
    words = pathlib.Path(f"/proc/{running[0]}/cmdline").read_bytes()
    assert b"s3cret" not in words
    environment = (tmp_path / "env").read_text()
    assert "PGPASSWORD=s3cret" in environment and "A_SECRET" not in environment
    assert "did not finish within" in site.dead().header("leveret-error")
    wait("their end", lambda: not any(map(is_running, running)))
    wait("no file", lambda: not list(tmp_path.glob(".*")))
    site.assert_settled(worker)


def test_a_dump_that_cannot_be_read_is_no_dump(site, tmp_path):
    half = fake_program(tmp_path / "half", "exec pg_dump \"$@\" | head -c 3000\n")
    shutil.copy(binary().parent / "plugins/backup.so", site.handlers)
    queue = site.queue("backup")
    site.queues.add(queue)
    site.rows("create table goods as select md5(i::text) from generate_series(1, 1000) i")
    worker = site.worker(plugins={"backup": {
        "roots": [str(tmp_path)], "databases": {"shop": site.database_url}, "pg_dump": half,
        "handler": {"queue": queue, "dead_letter": site.dead_letter, "retry": {"max": 0}}}})
    site.broker.publish("", queue, json.dumps({"id": "1", "type": "backup", "payload": {
        "database": "shop", "path": str(tmp_path)}}))
    assert "pg_restore ended with 1" in site.dead().header("leveret-error")
    assert not list(tmp_path.glob("*.dump"))
    site.assert_settled(worker)


# old files and rows

def make_file(path, days):
    path.write_text("x" * 10)
    os.utime(path, (time.time() - days * DAY_S,) * 2)
    return path


@pytest.fixture
def logs(folders):
    old = [make_file(folders / name, 31) for name in ("logs/a.log", "logs/app/b.log")]
    young = make_file(folders / "logs/c.log", 29)
    (folders / "logs/app/link").symlink_to(make_file(folders / "outside/d.log", 31))
    yield old, young
    shutil.rmtree(folders / "outside")
    shutil.rmtree(folders / "logs/app")
    for name in ("outside", "logs/app"):
        (folders / name).mkdir()
    young.unlink()


def test_old_files_go(shared, worker, folders, logs):
    old, young = logs
    event_id = handled(shared, worker, "cleanup", {"target": "logs", "days": 30})
    report = worker.wait_log("cleaned up", id=event_id)
    assert (report["files"], report["bytes"]) == (2, 20)
    assert not any(path.exists() for path in old)
    assert young.exists() and (folders / "outside/d.log").exists()
    assert (folders / "logs/app/link").is_symlink()


def test_old_files_in_a_folder_below_go(shared, worker, logs):
    event_id = handled(shared, worker, "cleanup", {"target": "logs/app", "days": 30})
    assert worker.wait_log("cleaned up", id=event_id)["files"] == 1
    assert logs[0][0].exists()
    logs[0][0].unlink()


def test_a_dry_run_counts(shared, worker, logs):
    event_id = handled(shared, worker, "cleanup", {"target": "logs", "days": 30, "dry_run": True})
    report = worker.wait_log("would be cleaned up", id=event_id)
    assert (report["files"], report["bytes"]) == (2, 20)
    assert all(path.exists() for path in logs[0])
    handled(shared, worker, "cleanup", {"target": "logs", "days": 30})


def test_old_rows_go(shared, worker):
    shared.rows("""insert into "Old Sessions" select i, now() - i * interval '1 day'
                   from generate_series(1, 60) i""")
    event_id = handled(shared, worker, "cleanup",
                       {"target": "sessions", "days": 30, "dry_run": True})
    assert worker.wait_log("would be cleaned up", id=event_id)["rows"] == 31
    assert shared.rows('select count(*) from "Old Sessions"') == [(60,)]
    event_id = handled(shared, worker, "cleanup", {"target": "sessions", "days": 30})
    assert worker.wait_log("cleaned up", id=event_id)["rows"] == 31
    assert shared.rows('select count(*) from "Old Sessions"') == [(29,)]


@pytest.mark.parametrize("changes, text", [
    ({"target": "logs/../outside"}, '".." is not allowed'),
    ({"target": "logs/way-out"}, "a symbolic link"),
    ({"target": "/etc"}, "targets name no"),
    ({"target": "log"}, "targets name no"),
    ({"target": "sessions/x"}, "targets name no"),
    ({"target": "sessions; drop table users"}, "targets name no"),
    ({"target": ""}, "targets name no"),
    ({"target": 1}, "target is not a text"),
    ({"days": 0}, "days is not a whole number from 1"),
    ({"days": -1}, "days is not a whole number from 1"),
    ({"days": 10**9}, "days is not a whole number from 1"),
    ({"days": 1.5}, "days is not a whole number from 1"),
    ({"days": "30"}, "days is not a whole number from 1"),
    ({"dry_run": "no"}, "dry_run is not a boolean"),
])
def test_a_cleanup_that_makes_no_sense_is_rejected(shared, worker, folders, changes, text):
    kept = make_file(folders / "outside/kept", 1000)
    assert_rejected(shared, worker, "cleanup", {"target": "logs", "days": 30, **changes}, text)
    assert kept.exists()


# notifications

NOTE = {"user": "user123", "title": "Title", "message": "Message", "data": None}


def test_a_notification_for_the_application(shared, worker):
    event_id = handled(shared, worker, "notification",
                       {**NOTE, "type": "app", "data": {"n": 2**60}})
    assert shared.rows("select user_id, type, title, message, data, read_at from notifications "
                       "where event_id = %s", event_id) == [
        ("user123", "app", "Title", "Message", {"n": 2**60}, None)]


def test_a_notification_by_webhook(shared, worker, web):
    shared.rows("insert into notification_targets values ('*', 'webhook', %s), "
                "('user9', 'webhook', %s), ('user8', 'webhook', %s)", web.url + "/hook",
                web.url + "/status/503", web.url + "/status/410")
    event_id = handled(shared, worker, "notification", {**NOTE, "type": "webhook", "data": [1]})
    (request,) = [request for request in web.requests if request.path == "/hook"]
    assert json.loads(request.body) == {"id": event_id, "user": "user123", "title": "Title",
                                        "message": "Message", "data": [1]}
    assert_rejected(shared, worker, "notification", {**NOTE, "user": "user8", "type": "webhook"},
                    "the webhook answers 410")
    event_id = send(shared, "notification", {**NOTE, "user": "user9", "type": "webhook"},
                    max_attempts=1)
    assert "the webhook answers 503" in letter_of(shared, event_id).header("leveret-error")
    assert shared.rows("select * from notifications where event_id = %s", event_id) == []


def test_a_notification_by_email(shared, worker, sink):
    shared.rows("insert into notification_targets values ('user123', 'email', 'note@example.com')")
    event_id = handled(shared, worker, "notification", {**NOTE, "type": "email"})
    mail = mail_of(sink, "note@example.com")
    assert mail.message["subject"] == "Title"
    assert mail.message["message-id"] == f"<{event_id}.email@example.org>"
    assert mail.parts() == [("text/plain", "Message\n")]


@pytest.mark.parametrize("changes, text", [
    ({"type": "pigeon"}, "type must be email, webhook or app"),
    ({"user": "stranger", "type": "email"}, "no email for the user stranger"),
    ({"user": 7}, "user is missing, or is no text"),
    ({"title": ""}, "title is missing, or is no text"),
    ({"message": None}, "message is missing, or is no text"),
])
def test_a_notification_that_makes_no_sense_is_rejected(shared, worker, changes, text):
    assert_rejected(shared, worker, "notification", {**NOTE, "type": "app", **changes}, text)


# the client library

def run_client(shared, *words):
    result = subprocess.run([binary().parent / "example_messaging", *words], text=True,
                            capture_output=True, check=False, timeout=60,
                            env=environment(shared.directory,
                                            {"RABBITMQ_URL": shared.services.rabbitmq_url}))
    return result.returncode, result.stderr


def test_the_client_library_sends_each_kind(shared, worker, sink, folders, logs):
    subject = 'a "quoted" \\ subject, ü'
    assert run_client(shared, "email", "client@example.com", subject, "Body", "<p>") == (0, "")
    mail = mail_of(sink, "client@example.com")
    assert mail.message["subject"] == subject
    assert [kind for kind, _ in mail.parts()] == ["text/plain", "text/html"]
    before = len(worker.log.records("database dumped"))
    assert run_client(shared, "backup", "shop", str(folders / "backups/nightly")) == (0, "")
    wait("a dump", lambda: len(worker.log.records("database dumped")) == before + 1)
    assert run_client(shared, "cleanup", "logs", "30") == (0, "")
    wait("the end of the old files", lambda: not any(path.exists() for path in logs[0]))
    assert run_client(shared, "notification", "client", "app", "Title", "Message",
                      '{"n": [1]}') == (0, "")
    wait("a notification", lambda: shared.rows(
        "select data from notifications where user_id = 'client'") == [({"n": [1]},)])


def test_the_client_library_says_what_is_wrong(shared, worker):
    assert run_client(shared, "notification", "u", "app", "t", "m", "{")[1] == (
        "messaging: the data of a notification is not JSON\n")
    assert run_client(shared, "fax")[0] == 64
    for days in ("", "x", "30d", "-1", "4294967297", "18446744073709551617"):
        assert run_client(shared, "cleanup", "logs", days)[0] == 64


# all of it

def test_each_handler_has_its_own_dead_letters(shared, worker):
    shared.publish("ticket.lost", {"id": 1})
    assert "as the test wants it" in shared.dead().header("leveret-error")
    assert_rejected(shared, worker, "cleanup", {"target": "none", "days": 1}, "targets name no")
    assert shared.broker.depth(shared.dead_letter) == 0


def test_an_unknown_type_is_a_dead_letter(shared, worker):
    shared.broker.publish("", "email_queue",
                          json.dumps({"id": "fax-1", "type": "fax", "payload": {}}))
    assert "fax" in letter_of(shared, "fax-1").header("leveret-error")


def test_a_queue_that_somebody_has_declared_plainly_is_used(site, folders):
    shutil.copy(binary().parent / "plugins/cleanup.so", site.handlers)
    queue = site.queue("cleanup")
    site.queues.add(queue)
    site.broker.declare(queue)
    worker = site.worker(plugins={"cleanup": {
        "targets": {"logs": {"path": str(folders / "logs")}},
        "handler": {"queue": queue, "max_priority": 0, "dead_letter": site.dead_letter}}})
    site.broker.publish("", queue, json.dumps(
        {"id": "1", "type": "cleanup", "payload": {"target": "logs", "days": 30}}))
    worker.wait_log("processed", id="1")
    site.assert_settled(worker)


def test_the_urgent_ones_come_first(site):
    shutil.copy(binary().parent / "plugins/cleanup.so", site.handlers)
    queue = site.queue("cleanup")
    site.queues.add(queue)
    config = {"targets": {}, "handler": {"queue": queue, "dead_letter": site.dead_letter,
                                         "prefetch": 1, "concurrency": 1}}
    site.worker(plugins={"cleanup": config}).stop()  # which declares the queue
    for number, priority in enumerate((1, 9, 5)):
        site.broker.publish("", queue, json.dumps({
            "id": str(number), "type": "cleanup", "payload": {"target": "x", "days": 1}}),
            priority=priority)
    worker = site.worker(plugins={"cleanup": config})
    worker.wait_outcomes("failed", 3)
    assert [record["id"] for record in worker.log.records("dead-lettered to")] == ["1", "2", "0"]
    site.assert_settled(worker)


def test_check_accepts_it(shared, plugins):
    install(shared)
    result = shared.leveret("check", "-c", shared.write_config(plugins=plugins))
    assert result.returncode == OK, result.stderr
    for queue in QUEUES.values():
        assert queue in result.stdout


def test_everything_is_settled_at_the_end(shared, worker):
    shared.assert_settled(worker)
