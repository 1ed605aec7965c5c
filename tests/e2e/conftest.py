"""Fixtures of the end-to-end tests. See harness/ for what they hand out.

LEVERET_BIN             the program under test (default build/asan/leveret)
LEVERET_TEST_SERVICES   the folder of servers that tests/services.sh has started already; tests that
                        run at once (pytest -n) start a set each, in folders beside it
"""
import contextlib
import os
import pathlib
import socket
import sys
import tempfile

import pytest
import redis as redis_client
from redis.backoff import ConstantBackoff
from redis.retry import Retry

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from harness.broker import Broker  # noqa: E402
from harness.services import Services  # noqa: E402
from harness.site import RUNS, Site  # noqa: E402
from harness.web import Web  # noqa: E402
from harness.worker import binary  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="run what takes long, too")


def pytest_configure(config):
    config.addinivalue_line("markers", "full: takes long; runs with --full")
    config.addinivalue_line("markers", "alone: is about speed: nothing else runs beside it")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--full"):
        return
    skip = pytest.mark.skip(reason="takes long: --full runs it")
    for item in items:
        if item.get_closest_marker("full"):
            item.add_marker(skip)


@contextlib.contextmanager
def started(directory):
    mine = Services(directory)
    mine.run("start")
    try:
        yield mine.load()
    finally:
        mine.run("stop")


@pytest.fixture(scope="session")
def services():
    given = os.environ.get("LEVERET_TEST_SERVICES")
    part = os.environ.get("PYTEST_XDIST_WORKER")
    if given and part:
        with started(f"{given}-{part}") as mine:
            yield mine
    elif given:
        yield Services(given).load()
    else:
        with tempfile.TemporaryDirectory(prefix="leveret-e2e-") as directory:
            os.chmod(directory, 0o755)  # PostgreSQL may run as another user
            with started(directory) as mine:
                yield mine


@pytest.fixture(scope="session")
def leveret():
    assert binary().exists(), f"{binary()} is not built; LEVERET_BIN names another"


@pytest.fixture(scope="session")
def broker(services):
    client = Broker(services.rabbitmq_url)
    yield client
    client.close()


@pytest.fixture(scope="session")
def redis(services):
    client = redis_client.Redis.from_url(
        services.redis_url, decode_responses=True, retry=Retry(ConstantBackoff(0.05), 5),
        retry_on_error=[redis_client.ConnectionError])
    yield client
    client.close()


@pytest.fixture(scope="session")
def template(services, broker, redis, leveret, tmp_path_factory):
    """A database that `leveret migrate` has set up, which every site's is a copy of."""
    site = Site(services, broker, redis, None, tmp_path_factory.mktemp("template"))
    site.admin_sql(f'create database "{site.database_name}"')
    site.migrate()
    site.rows(RUNS)
    site._connection.close()
    yield site.database_name
    site.close()


@pytest.fixture(scope="session")
def make_site(services, broker, redis, template, tmp_path_factory):
    def make():
        return Site(services, broker, redis, template, tmp_path_factory.mktemp("site"))
    return make


@pytest.fixture
def site(make_site):
    mine = make_site()
    yield mine
    mine.close()


@pytest.fixture(scope="module")
def shared(make_site):
    """One site for all the tests of a file."""
    mine = make_site()
    yield mine
    mine.close()


@pytest.fixture(scope="session")
def web():
    server = Web()
    yield server
    server.close()


@pytest.fixture(scope="session")
def closed_port():
    """A port that refuses connections: somebody has it, and does not listen."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failure shows the end of what the test's workers wrote."""
    outcome = yield
    report = outcome.get_result()
    if not report.failed:
        return
    sites = (item.funcargs.get(name) for name in ("site", "shared"))
    for site in filter(None, sites):
        for worker in site.workers:
            report.sections.append((f"worker {worker.directory}", worker.log.text()[-4000:]))
