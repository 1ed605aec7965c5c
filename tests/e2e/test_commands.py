"""The commands that need no server."""
import json
import re
import subprocess

import pytest

from harness import lua
from harness.worker import OK, ROOT, USAGE, binary, environment, run_leveret

HANDLERS = {
    "item.created.lua": """return function(event, ctx)
        ctx.log.info('handled', {name = event.payload.name, attempt = event.attempt}) end""",
    "item.fails.lua": """return { retry = { max = 2, base_ms = 50 },
        handle = function(event, ctx) error('boom') end }""",
    "item.twice.lua": """return { retry = { max = 2, base_ms = 50 },
        handle = function(event, ctx) if event.attempt == 1 then error('once') end end }""",
    "item.rejected.lua": "return function(event, ctx) ctx.reject('not for us') end",
    "item.dropped.lua": "return function(event, ctx) ctx.drop('not needed') end",
    "item.cached.lua": """return function(event, ctx)
        ctx.redis.set('items:1', 'x') ctx.redis.set('items:2', 'x')
        local n = ctx.cache.invalidate('items:*')
        ctx.log.info('invalidated', {count = n}) end""",
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "handlers").mkdir()
    for name, text in HANDLERS.items():
        (tmp_path / "handlers" / name).write_text(text)
    return tmp_path


def config(folder, **values):
    values = {"handlers": [str(folder / "handlers")], **values}
    path = folder / "leveret.lua"
    path.write_text(lua.configuration(values))
    return path


def embedded(folder, *events, timeout_s=30, **values):
    text = "".join((event if isinstance(event, str) else json.dumps(event)) + "\n"
                   for event in events)
    result = run_leveret(folder, "run", "--embedded", "-c", config(folder, **values), stdin=text,
                         timeout_s=timeout_s)
    return result, result.stdout + result.stderr


def event(event_type, payload=None, **more):
    return {"event": event_type, "payload": payload, **more}


def test_embedded_needs_no_server_and_ends(folder):
    result, text = embedded(folder, event("item.created", {"name": "first"}),
                            {"type": "item.created", "item": {"name": "second"},
                             "timestamp": "2026-02-18T18:23:45Z"})
    assert result.returncode == OK
    assert len(re.findall(r"\bprocessed\b.*item\.created|item\.created.*\bprocessed\b", text)) == 2
    assert "first" in text and "second" in text


def test_embedded_prints_what_became_of_each(folder):
    result, text = embedded(folder, event("item.fails"), event("item.twice"),
                            event("item.rejected"), event("item.dropped"), "not JSON",
                            event("nobodys.event"))
    assert result.returncode == OK
    for pattern in (r"attempt 1/2 after 50 ms", r"attempt 2/2 after 100 ms",
                    r"item\.fails.*boom|boom.*item\.fails", r"not for us", r"not needed", r"JSON",
                    r"nobodys\.event"):
        assert re.search(pattern, text), pattern
    assert re.search(r"item\.twice.*processed|processed.*item\.twice", text)


def test_embedded_skips_duplicates(folder):
    one = {"id": "m-1", "type": "item.created", "payload": {"name": "only"}}
    result, text = embedded(folder, one, one, one)
    assert result.returncode == OK
    assert len(re.findall("already processed", text)) >= 2
    assert len(re.findall(r"handled", text)) == 1


def test_embedded_has_a_cache(folder):
    result, text = embedded(folder, event("item.cached"))
    assert result.returncode == OK
    assert re.search(r"invalidated.*count\W+2", text)


def test_embedded_takes_a_last_line_without_its_end(folder):
    result = run_leveret(folder, "run", "--embedded", "-c", config(folder),
                         stdin='{"event": "item.created", "payload": {"name": "x"}}')
    assert result.returncode == OK and "processed" in result.stdout + result.stderr


def test_embedded_without_events_ends(folder):
    result, _ = embedded(folder)
    assert result.returncode == OK


def test_embedded_with_many_events(folder):
    events = [event("item.created", {"name": f"n{number}"}) for number in range(5000)]
    result, text = embedded(folder, *events, timeout_s=60, log={"level": "info"})
    assert result.returncode == OK
    assert {int(number) for number in re.findall(r"\bn(\d+)\b", text)} == set(range(5000))


def test_embedded_runs_opsdesk(folder):
    lines = [event(name, {"id": "t-1", "ticketId": "t-1"}) for name in
             ("ticket.created", "ticket.updated", "ticket.status_changed", "message.sent")]
    result, text = embedded(folder, *lines, handlers=[str(ROOT / "handlers/opsdesk")])
    assert result.returncode == OK
    assert text.count("[FAKE]") >= 4


def test_check_prints_the_routes(folder):
    (folder / "handlers" / "all.lua").write_text(
        "return { events = { 'item.*' }, queue = 'everything', handle = function() end }")
    result = run_leveret(folder, "check", "-c", config(folder, rabbitmq={"exchange": "shop"}))
    assert result.returncode == OK
    for word in ("item.created", "item.created.queue", "everything", "item.*", "shop"):
        assert word in result.stdout, word


def test_version_names_its_libraries(folder):
    result = run_leveret(folder, "version")
    assert result.returncode == OK
    assert re.search(r"leveret \d+\.\d+", result.stdout)
    for name in ("rabbitmq", "libpq|postgres", "hiredis", "lua", "libuv", "curl", "microhttpd"):
        assert re.search(f"(?i)({name}).*\\d", result.stdout), name


def test_help_names_every_command(folder):
    result = run_leveret(folder, "--help")
    assert result.returncode == OK
    for name in ("run", "check", "exec", "migrate", "version"):
        assert re.search(rf"\b{name}\b", result.stdout)


def test_the_configuration_is_described(folder):
    result = run_leveret(folder, "run", "--help-config")
    assert result.returncode == OK
    for key in ("rabbitmq.prefetch", "postgres.url", "retry.base_ms", "shutdown_timeout_ms"):
        assert key in result.stdout


def test_an_unknown_flag_is_named(folder):
    result = run_leveret(folder, "check", "--sideways")
    assert result.returncode == USAGE and "--sideways" in result.stderr


@pytest.mark.parametrize("command", [("--help",), ("check",), ("version",), ("run", "--help-config")])
def test_what_standard_output_does_not_take_is_a_failure(folder, command):
    config(folder)
    with open("/dev/full", "w", encoding="utf-8") as full:
        result = subprocess.run([binary(), *command], stdout=full, stderr=subprocess.PIPE, text=True,
                                cwd=folder, env=environment(folder), check=False, timeout=30)
    assert result.returncode == 70
    assert result.stderr.endswith("leveret: standard output does not take it all\n")


def test_check_counts_one_as_one(folder):
    (folder / "one").mkdir()
    (folder / "one" / "item.created.lua").write_text(HANDLERS["item.created.lua"])
    result = run_leveret(folder, "check", "-c", config(folder, handlers=[str(folder / "one")]))
    assert "\nok: 1 handler on 1 queue\n" in result.stdout
