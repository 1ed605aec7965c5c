"""No secret in any output: every command and way to fail that knows a URL is run with passwords that
are looked for afterwards, in what was printed, in logs at debug level, on the pages, in the command
line, and in what the broker tells of its connections."""
import json
import pathlib
from urllib.parse import quote, urlsplit

import pytest

from harness.waiting import wait
from harness.worker import CONFIG, UNAVAILABLE

# They need escapes in a URL: neither spelling may show.
SECRETS = {"rabbitmq": "r4bbit:s3cret/päss", "postgres": "p0stgres@s3cret?", "redis": "r3dis#s3cret%"}
VARIABLES = {"rabbitmq": "RABBITMQ_URL", "postgres": "DATABASE_URL", "redis": "REDIS_URL"}


def spellings():
    for secret in SECRETS.values():
        yield secret
        yield quote(secret, safe="")


def assert_no_secret(text, *more):
    for secret in [*spellings(), *more]:
        assert secret not in text, f"{secret!r} in {text[-3000:]}"


def urls(ports, host="127.0.0.1"):
    password = {name: quote(secret, safe="") for name, secret in SECRETS.items()}
    return {
        "rabbitmq": f"amqp://somebody:{password['rabbitmq']}@{host}:{ports['rabbitmq']}/",
        "postgres": f"postgresql://somebody:{password['postgres']}@{host}:{ports['postgres']}/none",
        "redis": f"redis://:{password['redis']}@{host}:{ports['redis']}/0",
    }


def changes(addresses):
    return {name: {"url": url} for name, url in addresses.items()}


@pytest.fixture
def closed(closed_port):
    return dict.fromkeys(SECRETS, closed_port)


@pytest.fixture
def event(tmp_path):
    path = tmp_path / "event.json"
    path.write_text(json.dumps({"event": "good.event", "payload": {}}))
    return path


def commands(site, event):
    handler = site.handlers / "good.event.lua"
    return [
        ["check"], ["run", "--help-config"], ["version"], ["migrate"], ["exec", handler, event],
        ["exec", "--live", handler, event],
        ["publish", "good.event", "{}"], ["dlq", "list"], ["dlq", "show"], ["dlq", "replay"],
        ["dlq", "discard", "--all", "--yes"], ["no-such-command"], ["run", "--no-such-option"],
    ]


def needs_servers(command):
    return command[0] in ("migrate", "publish", "dlq")


def run_all(site, event, path, env=None):
    for command in commands(site, event):
        with_path = command if command[0] in ("version", "no-such-command") else \
            [*command, "-c", path]
        result = site.leveret(*with_path, env=env, timeout_s=60)
        yield command, result.returncode, result.stdout + result.stderr


@pytest.mark.parametrize("way", ["file", "variables"])
def test_every_command_with_servers_that_are_away(site, event, closed, way):
    site.handler("good.event", "ctx.log.info('runs')")
    addresses = urls(closed)
    env = {VARIABLES[name]: url for name, url in addresses.items()} if way == "variables" else {}
    path = site.write_config(**(changes(addresses) if way == "file" else {}))
    for command, code, text in run_all(site, event, path, env):
        assert_no_secret(text)
        if needs_servers(command):  # it got so far as to ask for them
            assert code == UNAVAILABLE, f"{command}: {text}"


def test_every_command_with_passwords_that_are_wrong(site, services, event):
    site.handler("good.event", "ctx.log.info('runs')")
    ports = {"rabbitmq": urlsplit(services.rabbitmq_url).port,
             "postgres": urlsplit(services.database_url).port,
             "redis": urlsplit(services.redis_url).port}
    for name, url in urls(ports).items():
        path = site.write_config(**{name: {"url": url}})
        for _, _, text in run_all(site, event, path):
            assert_no_secret(text)
        result = site.leveret("run", "-c", path)
        assert result.returncode == CONFIG
        assert_no_secret(result.stdout + result.stderr)


@pytest.mark.parametrize("name,url", [
    ("rabbitmq", "amqp://somebody:{secret}@host:notaport/"),
    ("rabbitmq", "amqp://somebody:{secret}@host/a/b/c"),
    ("rabbitmq", "ampq://somebody:{secret}@host/"),
    ("rabbitmq", "somebody:{secret}@host"),
    ("postgres", "postgresql://somebody:{secret}@host:notaport/x"),
    ("postgres", "postgresql://somebody:{secret}@[host/x"),
    ("postgres", "host=x password='{secret}' nonsense=1"),
    ("postgres", "postgresql://host/x?password={secret}&nonsense=1"),
    ("redis", "redis://:{secret}@host:notaport/0"),
    ("redis", "redis://:{secret}@host/0?nonsense=1"),
    ("redis", "rediss://:{secret}@host/0"),
    ("redis", "http://:{secret}@host/0"),
])
def test_addresses_that_cannot_be_read(site, name, url):
    site.handler("good.event", "")
    secret = "h1dden-s3cret"
    given = url.format(secret=secret)
    path = site.write_config(**{name: {"url": given}})
    bare = site.write_config(**{name: None})
    for command in ("run", "check", "migrate"):
        for arguments, env in (([command, "-c", path], {}),
                               ([command, "-c", bare], {VARIABLES[name]: given})):
            result = site.leveret(*arguments, env=env, timeout_s=60)
            assert_no_secret(result.stdout + result.stderr, secret)


def test_a_secret_in_a_configuration_that_is_wrong_elsewhere(site):
    """An error quotes its line or its key, never another one's value."""
    site.handler("good.event", "")
    secret = "h1dden-s3cret"
    for text in (f"rabbitmq = {{ url = 'amqp://a:{secret}@h/' ", f"rabbitmq = 'amqp://a:{secret}@h/'",
                 f"redis = {{ ulr = 'redis://:{secret}@h/0' }}",
                 f"postgres = {{ url = {{ 'postgresql://a:{secret}@h/x' }} }}",
                 f"local url = 'amqp://a:{secret}@h/'\nurl()\n"):
        path = site.directory / "wrong.lua"
        path.write_text(text)
        result = site.leveret("check", "-c", path)
        assert result.returncode != 0
        assert_no_secret(result.stdout + result.stderr, secret)


def test_a_worker_that_runs_and_loses_its_servers(site, services):
    """At debug level, on its pages, in its command line, and in what the servers show of it."""
    secrets = [urlsplit(url).password for url in (site.database_url, services.redis_url)]
    site.handler("good.event", "mark(event, ctx) ctx.db.query('select no_such_column')",
                 retry={"max": 1, "base_ms": 250})
    worker = site.worker()
    site.publish("good.event")
    site.dead()
    pages = "".join(worker.get(page)[1] for page in
                    ("/", "/metrics", "/metrics.json", "/livez", "/readyz", "/none"))
    assert_no_secret(pages, *secrets)
    process = pathlib.Path("/proc", str(worker.process.pid))
    assert_no_secret((process / "cmdline").read_text(), *secrets, "guest:guest")
    shown = {
        "RabbitMQ": services.run("rabbitmqctl", "list_connections", "user", "client_properties"),
        "PostgreSQL": str(site.rows("select application_name, query from pg_stat_activity "
                                    "where datname = %s", site.database_name)),
        "Redis": str(site.redis.client_list()),
    }
    assert "leveret" in shown["RabbitMQ"] and "processed_events" in shown["PostgreSQL"]
    for text in shown.values():
        assert_no_secret(text, *secrets, "guest:guest")
    for name in ("redis", "postgres", "rabbitmq"):
        services.stop(name)
        wait(f"to notice that {name} is away", lambda: not worker.ready())
        assert_no_secret(worker.get("/readyz")[1], *secrets, "guest:guest")
        services.start(name)
        worker.wait_ready()
    worker.stop()
    assert_no_secret(worker.log.text(), *secrets, "guest:guest")
