"""leveret exec: one handler, one event, no broker; and what leveret check finds in handlers."""
import json
import re

import pytest

from harness import lua
from harness.worker import CONFIG, OK, UNAVAILABLE, USAGE, run_leveret

FAILED, DATA, NO_INPUT, LATER = 1, 65, 66, 75

ALL = """
ctx.log.info('begins', {ticket = event.payload.id, attempt = event.attempt})
ctx.redis.set('k', 'v v')
local held = ctx.redis.get('k')
local count = ctx.redis.incr('n')
local removed = ctx.cache.invalidate('a:*', 'b:*')
local changed = ctx.db.exec('update t\\n   set x = $1 where y = $2', event.payload.id, ctx.null)
local rows = ctx.db.query('select 1')
local later = ctx.cache.invalidate('c:*')
ctx.sleep(500000)
local answer = ctx.http.request{method = 'POST', url = 'http://127.0.0.1:1/x', body = 'hello'}
ctx.log.warn('ends', {held = tostring(held), count = count, removed = removed, changed = changed,
    rows = #rows, later = tostring(later), status = answer.status, body = answer.body})
"""


class Files:
    def __init__(self, directory):
        self.directory = directory
        self.handlers = directory / "handlers"
        self.handlers.mkdir()

    def handler(self, body, name="a.test", options="timeout_ms = 600000,"):
        path = self.handlers / (name + ".lua")
        path.write_text(f"return {{ {options} handle = function(event, ctx)\n{body}\nend }}\n")
        return path

    def event(self, payload=None, event_type="a.test", **more):
        path = self.directory / "event.json"
        path.write_text(json.dumps({"event": event_type, "payload": payload, **more}))
        return path

    def leveret(self, *arguments, **options):
        return run_leveret(self.directory, *arguments, **options)

    def exec(self, body, payload=None, *arguments, **options):
        handler = options.pop("handler", None) or self.handler(body)
        return self.leveret("exec", handler, self.event(payload), *arguments, **options)


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path)


def lines(result):
    """The steps as (kind, document), the answers by their steps' numbers, and the verdict."""
    documents = [json.loads(line) for line in result.stdout.splitlines()]
    steps = [(document["kind"], document) for document in documents if "step" in document]
    answers = {document["answer"]: document for document in documents if "answer" in document}
    return steps, answers, documents[-1]


def test_shows_every_effect_in_order(files):
    result = files.exec(ALL, {"id": 7})
    assert result.returncode == OK, result.stdout + result.stderr
    kinds = re.findall(r"^ *\d+  (\w+)", result.stdout, re.M)
    assert kinds == ["log", "redis", "redis", "redis", "invalidate", "invalidate", "begin", "sql",
                     "sql", "invalidate", "sleep", "http", "log", "commit", "invalidate"]
    for part in ('update t set x = $1 where y = $2  ["7", null]', 'set k "v v"', "a:*",
                 "c:*  (waits for the commit)", "500000 ms",
                 "POST http://127.0.0.1:1/x (5 bytes)  hello", "begins attempt=1 ticket=7",
                 "held=nil", "changed=1", "rows=0", "removed=0", "later=nil", "count=1",
                 "status=200", "(stand-in)", "verdict  done", "--live"):
        assert part in result.stdout, part
    assert "\x1b" not in result.stdout


def test_json_is_for_programs(files):
    steps, answers, verdict = lines(files.exec(ALL, {"id": 7}, "--json"))
    assert [kind for kind, _ in steps][6:9] == ["begin", "sql", "sql"]
    sql = steps[7][1]
    assert sql["sql"] == "update t\n   set x = $1 where y = $2" and sql["params"] == ["7", None]
    assert answers[sql["step"]] == {"answer": sql["step"], "stand_in": True, "rows": 0,
                                    "affected": 1}
    http = next(document for kind, document in steps if kind == "http")
    assert (http["method"], http["body"]) == ("POST", "hello")
    log = steps[0][1]
    assert (log["level"], log["text"], log["fields"]) == ("info", "begins",
                                                          {"ticket": 7, "attempt": 1})
    assert verdict["verdict"] == "done" and verdict["duration_ms"] >= 500000


@pytest.mark.parametrize("body", ["while true do end", "ctx.publish('x.y', 'no object')"])
def test_shows_no_sleep_that_the_handler_did_not_ask_for(files, body):
    result = files.exec(body)
    assert result.returncode == FAILED and result.stdout.startswith("verdict  retry: ")


def test_shows_a_sleep_of_no_time(files):
    assert "sleep       0 ms\n" in files.exec("ctx.sleep(0)").stdout


@pytest.mark.parametrize("body, code, pattern", [
    ("", OK, r"^verdict  done$"),
    ("ctx.drop('not needed')", OK, r"^verdict  drop: not needed$"),
    ("error('boom')", FAILED, r"^verdict  retry: .*a\.test\.lua:2: boom "
                              r"\(attempt 1/3 after 1000 ms\)\n +stack traceback:\n"),
    ("ctx.retry('soon', {after_ms = 7})", FAILED, r"^verdict  retry: soon \(attempt 1/3 after 7 ms"),
    ("ctx.reject('not ours')", FAILED, r"^verdict  reject: not ours \(to the dead letters\)$"),
    ("ctx.snooze(500)", LATER, r"^verdict  snooze \(again after 500 ms\)$"),
    ("ctx.sleep(600001)", FAILED, r"timeout_ms = 600000"),
    ("ctx.db.exec('x') error('boom')", FAILED, r"^ +3  rollback$"),
])
def test_verdicts(files, body, code, pattern):
    result = files.exec(body)
    assert result.returncode == code, result.stdout + result.stderr
    assert re.search(pattern, result.stdout, re.M), result.stdout


def test_the_last_attempt_is_followed_by_the_dead_letters(files):
    result = files.exec("error('attempt ' .. event.attempt)", None, "--attempt", "4")
    assert result.returncode == FAILED
    assert "attempt 4 (attempt 4 was the last: to the dead letters)" in result.stdout


def test_a_handler_goes_by_its_name(files):
    files.handler("ctx.log.info('it')", name="b.test")
    (files.handlers / "broken.lua").write_text("return 1 +")  # nobody's business here
    path = files.directory / "leveret.lua"
    path.write_text(lua.configuration({"handlers": [str(files.handlers)]}))
    result = files.leveret("exec", "b.test", files.event(event_type="b.test"), "-c", path)
    assert result.returncode == OK and "it" in result.stdout
    result = files.leveret("exec", "c.test", files.event(), "-c", path)
    assert result.returncode == CONFIG and "c.test" in result.stderr


def test_a_bare_payload_with_its_type(files):
    handler = files.handler("ctx.log.info(event.type, {id = event.payload.id})",
                            options="envelope = 'message',")
    result = files.leveret("exec", "--event", "a.test", handler, "-", stdin='{"id": "t-1"}\n')
    assert result.returncode == OK and "a.test id=t-1" in result.stdout


def test_any_envelope(files):
    handler = files.handler("ctx.log.info('got', {name = event.payload.name, id = event.id})")
    for event in ({"type": "a.test", "item": {"name": "x"}, "timestamp": "2026-02-18T18:23:45Z"},
                  {"id": "m-1", "type": "a.test", "payload": {"name": "x"}},
                  {"specversion": "1.0", "type": "a.test", "source": "s", "id": "c",
                   "data": {"name": "x"}}):
        result = files.leveret("exec", handler, "-", stdin=json.dumps(event))
        assert result.returncode == OK and "name=x" in result.stdout, result.stderr


@pytest.mark.parametrize("text, pattern", [
    ('{"event": ', "not JSON"), ("", "empty"), ('{"payload": 1}', "type|envelope"),
    ('{"event": "other"}', "no handler .* other"), ('[1]', "object|envelope"),
    ('{"event": "a.test", "payload": "' + "x" * 2000 + '"}', "max_body_bytes"),
], ids=["cut", "empty", "no type", "another type", "a list", "too big"])
def test_no_event(files, text, pattern):
    result = files.leveret("exec", files.handler(""), "-", stdin=text,
                           env={"LEVERET_MAX_BODY_BYTES": "1024"})
    assert result.returncode == DATA
    assert re.search(pattern, result.stderr) and not result.stdout


@pytest.mark.parametrize("text, byte", [('{"a": }', "6"), ("", "0"), ("1 2", "2")])
def test_a_payload_that_is_not_json(files, text, byte):
    result = files.leveret("exec", "--event", "a.test", files.handler(""), "-", stdin=text)
    assert result.returncode == DATA and f"byte {byte}" in result.stderr


def test_what_cannot_be_run(files):
    handler, event = files.handler(""), files.event()
    broken = files.handlers / "broken.lua"
    broken.write_text("return { handle = function() end, tiemout_ms = 1 }")
    for arguments, code, word in (
            ((handler, files.directory / "missing.json"), NO_INPUT, "missing.json"),
            ((handler, files.directory), NO_INPUT, "directory"),
            ((broken, event), CONFIG, "timeout_ms"),
            (("nobody", event), CONFIG, "nobody"),
            ((handler,), USAGE, "event"), ((handler, event, event), USAGE, "event.json"),
            (("--sideways", handler, event), USAGE, "--sideways"),
            (("--attempt", "0", handler, event), USAGE, "--attempt"),
            ((handler, event, "--event"), USAGE, "--event")):
        result = files.leveret("exec", *arguments)
        assert result.returncode == code and word in result.stderr, (arguments, result.stderr)


def test_help_tells_the_exit_codes(files):
    result = files.leveret("exec", "--help")
    assert result.returncode == OK
    for word in ("--live", "--attempt", "--json", "65", "75", "78"):
        assert word in result.stdout


def test_control_characters_do_not_reach_the_terminal(files):
    result = files.exec("ctx.log.info('a\\27[2Jb\\nc') ctx.redis.set('\\27]0;x', '\\0')")
    assert "\x1b" not in result.stdout and "\0" not in result.stdout


# --live

LIVE = """
ctx.redis.set(KEY .. ':a', event.payload.id)
local n = ctx.db.exec('insert into runs (event_id, attempt) values ($1, $2)', event.id,
    event.attempt)
local rows = ctx.db.query('select event_id from runs')
ctx.cache.invalidate(KEY .. ':a')
local answer = ctx.http.request{url = event.payload.url}
ctx.log.info('saw', {n = n, rows = #rows, id = rows[1].event_id, status = answer.status})
"""


def live(site, body, payload=None, *arguments, **changes):
    site.handler("a.test", body, prelude=f"local KEY = {lua.text(site.prefix)}\n",
                 retry={"max": 1})
    path = site.directory / "event.json"
    path.write_text(json.dumps({"id": "e-1", "type": "a.test", "payload": payload}))
    return site.leveret("exec", "--live", "-c", site.write_config(log={"level": "info"}, **changes),
                        "a.test", path, *arguments)


def test_live_performs_and_commits_and_records_nothing(site, redis, web):
    for count in (1, 2):
        result = live(site, LIVE, {"id": "t-1", "url": web.url + "/status/404"})
        assert result.returncode == OK, result.stdout + result.stderr
        assert f"n=1 rows={count}" in result.stdout and "id=e-1" in result.stdout
        assert "status=404" in result.stdout
        assert "1 keys" in result.stdout and "stand-in" not in result.stdout
    assert site.runs() == [("e-1",), ("e-1",)]
    assert site.ledger() == []
    assert site.rows("select * from pending_invalidations") == []
    assert redis.keys(site.prefix + ":*") == []


def test_live_rolls_back_what_failed(site):
    result = live(site, "ctx.db.exec('insert into runs (event_id) values (1)') error('boom')")
    assert result.returncode == FAILED and "rollback" in result.stdout
    assert site.runs() == []


def test_live_tells_what_the_database_says(site):
    result = live(site, "ctx.db.exec('selec 1')")
    assert result.returncode == FAILED
    assert re.search(r"= error: .*selec", result.stdout) and "42601" in result.stdout


def test_live_without_a_service(site, closed_port):
    result = live(site, "ctx.redis.get('x')", redis={"url": f"redis://127.0.0.1:{closed_port}"})
    assert result.returncode == UNAVAILABLE and "verdict  outage: Redis is away" in result.stdout
    result = live(site, "ctx.db.exec('select 1')",
                  postgres={"url": f"postgresql://127.0.0.1:{closed_port}/x"})
    assert result.returncode == UNAVAILABLE and "PostgreSQL is away" in result.stdout
    result = live(site, f"ctx.http.request{{url = 'http://127.0.0.1:{closed_port}'}}")
    assert result.returncode == FAILED


def test_live_sleeps(site):
    result = live(site, "ctx.sleep(300) ctx.sleep(200)", None, "--json")
    steps, _, verdict = lines(result)
    assert [document["ms"] for _, document in steps] == [300, 200]
    assert verdict["duration_ms"] >= 500


# check

def check(files, **values):
    path = files.directory / "leveret.lua"
    path.write_text(lua.configuration({"handlers": [str(files.handlers)], **values}))
    return files.leveret("check", "-c", path)


def test_check_finds_what_ctx_does_not_have(files):
    handler = files.handler("ctx.cahce.invalidate('x')\nos.getenv(event.paylod.x)")
    result = check(files)
    assert result.returncode == CONFIG
    for line in (f"{handler}:2: error: ctx has no `cahce`; did you mean `cache`?",
                 f"{handler}:3: error: os has no `getenv` in a handler",
                 f"{handler}:3: error: event has no `paylod`; did you mean `payload`?"):
        assert line in result.stderr, result.stderr
    assert "ok" not in result.stdout.splitlines()[-1]


def test_check_only_warns_of_what_may_be_meant(files):
    files.handler("if ctx.novel then ctx.novel() end")
    result = check(files)
    assert result.returncode == OK and "1 warning" in result.stdout
    assert ":2: warning: ctx has no `novel`" in result.stderr


def test_check_tells_of_a_raised_window(files):
    files.handler("")
    result = check(files, rabbitmq={"prefetch": 10})
    assert result.returncode == OK and "prefetch is raised from 10 to 200" in result.stderr
    result = check(files, rabbitmq={"prefetch": 10}, concurrency=5)
    assert result.returncode == OK and not result.stderr
