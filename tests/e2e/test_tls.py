"""amqps, PostgreSQL's sslmode and rediss: who is spoken to, and what is said when it is the wrong
one. RabbitMQ and PostgreSQL themselves show a certificate for 'localhost'; those that are wrong in
another way are shown by a front of ours."""
import contextlib
import re
import ssl
from urllib.parse import urlsplit

import pytest

from harness import tls
from harness.worker import CONFIG, UNAVAILABLE

PASSWORD = "t0p-s3cret"


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def certificates(services, directory):
    return {
        "good": tls.signed(directory, services.tls, "good"),
        "expired": tls.signed(directory, services.tls, "expired",
                              dates=("20200101000000Z", "20210101000000Z")),
        "early": tls.signed(directory, services.tls, "early",
                            dates=("20350101000000Z", "20360101000000Z")),
        "wrong-host": tls.signed(directory, services.tls, "wrong-host", host="elsewhere.example"),
        "self-signed": tls.self_signed(directory),
    }


@pytest.fixture
def front(services, certificates):
    fronts = []

    def make(name, **options):
        fronts.append(tls.Front(certificates[name], urlsplit(services.rabbitmq_url).port,
                                **options))
        return fronts[-1]

    yield make
    for made in fronts:
        made.close()


def amqps(port, host="localhost", password="guest"):
    return f"amqps://guest:{password}@{host}:{port}/"


def run(site, url, ca_file, env=None):
    path = site.write_config(rabbitmq={"url": url, "ca_file": ca_file and str(ca_file)},
                             log={"level": "debug"})
    return site.leveret("run", "-c", path, env=env, timeout_s=40)


def assert_refused(result, pattern, code=CONFIG):
    text = result.stdout + result.stderr
    assert result.returncode == code, text
    error = [line for line in text.splitlines() if re.search(pattern, line)]
    assert error, text
    assert "guest:guest" not in text


def test_an_event_over_tls(site, services):
    site.handler("good.event", "mark(event, ctx)")
    worker = site.worker(rabbitmq={"url": amqps(services.rabbitmq_tls_port),
                                   "ca_file": str(services.tls / "ca.crt")})
    event = site.publish("good.event")
    assert site.wait_marks(1)[0]["id"] == event
    site.assert_settled(worker)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_new_versions_are_spoken(site, services, front, version):
    site.handler("good.event", "mark(event, ctx)")
    worker = site.worker(rabbitmq={"url": amqps(front("good", only=version).port),
                                   "ca_file": str(services.tls / "ca.crt")})
    site.publish("good.event")
    site.wait_marks(1)
    site.assert_settled(worker)


def test_a_host_name_that_is_not_in_the_certificate(site, services):
    site.handler("good.event", "")
    result = run(site, amqps(services.rabbitmq_tls_port, host="127.0.0.1"),
                 services.tls / "ca.crt")
    assert_refused(result, r"127\.0\.0\.1:\d+ is for another host name; use the name .*"
                           r"rabbitmq\.url")


def test_an_authority_that_is_not_the_systems(site, services):
    site.handler("good.event", "")
    result = run(site, amqps(services.rabbitmq_tls_port), None)
    assert_refused(result, r"cannot be trusted; name the authority .* rabbitmq\.ca_file"
                           r"|cannot read certificates")


@pytest.mark.parametrize("name,pattern", [
    ("expired", "has expired"),
    ("early", "is not valid yet.*clock"),
    ("wrong-host", r"is for another host name; use the name .* rabbitmq\.url"),
    ("self-signed", r"is signed by itself and cannot be trusted.*rabbitmq\.ca_file"),
])
def test_a_certificate_that_is_wrong(site, services, front, name, pattern):
    site.handler("good.event", "")
    result = run(site, amqps(front(name).port), services.tls / "ca.crt")
    assert_refused(result, f"the certificate of RabbitMQ at localhost:\\d+ {pattern}")


def test_a_self_signed_certificate_that_is_named(site, front, certificates):
    site.handler("good.event", "mark(event, ctx)")
    worker = site.worker(rabbitmq={
        "url": amqps(front("self-signed").port),
        "ca_file": str(certificates["self-signed"].certificate)})
    site.publish("good.event")
    site.wait_marks(1)
    site.assert_settled(worker)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_an_old_version_of_tls(site, services, front, directory, version):
    """Also where the system's settings would let it pass."""
    site.handler("good.event", "")
    old = front("good", only=version)
    lax = directory / "openssl.cnf"
    lax.write_text("openssl_conf = all\n[all]\nssl_conf = ssl\n[ssl]\nsystem_default = lax\n"
                   "[lax]\nMinProtocol = TLSv1\nCipherString = DEFAULT:@SECLEVEL=0\n")
    result = run(site, amqps(old.port), services.tls / "ca.crt", {"OPENSSL_CONF": str(lax)})
    assert_refused(result, "does not offer TLS 1.2 or newer.*ssl_options.versions")
    assert not old.versions


def test_a_port_without_tls(site, services):
    site.handler("good.event", "")
    path = site.write_config(rabbitmq={"url": amqps(urlsplit(services.rabbitmq_url).port),
                                       "ca_file": str(services.tls / "ca.crt")})
    result = site.leveret("dlq", "list", "-c", path, timeout_s=40)
    assert_refused(result, "is it a TLS port", UNAVAILABLE)


def test_a_ca_file_that_is_not_there(site, services):
    site.handler("good.event", "")
    result = run(site, amqps(services.rabbitmq_tls_port), "/no/such/ca.crt")
    assert_refused(result, r"cannot read certificates from /no/such/ca\.crt; set rabbitmq\.ca_file")


def test_a_certificate_that_changes_while_it_runs(site, services, front, certificates):
    """Once connected, a broker that shows a bad certificate is an outage, not the worker's end."""
    site.handler("good.event", "mark(event, ctx)")
    shown = front("good")
    worker = site.worker(rabbitmq={"url": amqps(shown.port),
                                   "ca_file": str(services.tls / "ca.crt")})
    shown.context.load_cert_chain(certificates["expired"].certificate, certificates["expired"].key)
    shown.cut()
    worker.wait_log("has expired")
    shown.context.load_cert_chain(certificates["good"].certificate, certificates["good"].key)
    site.publish("good.event")
    site.wait_marks(1)
    site.assert_settled(worker)


# PostgreSQL


def postgres(site, host, **parameters):
    parts = urlsplit(site.database_url)
    query = "&".join(f"{name}={value}" for name, value in parts_of(parameters))
    return parts._replace(netloc=f"{parts.username}:{parts.password}@{host}:{parts.port}",
                          query=query).geturl()


def parts_of(parameters):
    return [(name, str(value).replace("/", "%2F")) for name, value in parameters.items()]


def test_postgres_over_tls_with_its_name_verified(site, services):
    site.handler("good.event", "mark(event, ctx, ctx.db.query([[select version from pg_stat_ssl "
                               "where pid = pg_backend_pid()]])[1].version)")
    worker = site.worker(postgres={"url": postgres(site, "localhost", sslmode="verify-full",
                                                   sslrootcert=services.tls / "ca.crt")})
    site.publish("good.event")
    assert site.wait_marks(1)[0]["note"] in ("TLSv1.2", "TLSv1.3")
    rows = site.rows("select distinct ssl from pg_stat_ssl join pg_stat_activity using (pid) "
                     "where datname = %s and pid <> pg_backend_pid()", site.database_name)
    assert rows == [(True,)]
    site.assert_settled(worker)


@pytest.mark.parametrize("host,ca,pattern", [
    ("127.0.0.1", "ca.crt", r"does not match host name"),
    ("localhost", "self-signed", r"certificate verify failed; has it expired"),
    ("localhost", "/no/such/ca.crt", r"root certificate file .* does not exist; name the file"),
], ids=["wrong-host", "unknown-authority", "no-file"])
def test_postgres_that_cannot_be_verified(site, services, certificates, host, ca, pattern):
    site.handler("good.event", "")
    root = certificates[ca].certificate if ca in certificates else services.tls / ca
    path = site.write_config(postgres={"url": postgres(site, host, sslmode="verify-full",
                                                       sslrootcert=root)},
                             log={"level": "debug"})
    for command in ("run", "migrate"):
        result = site.leveret(command, "-c", path, timeout_s=40)
        assert_refused(result, pattern + r".*postgres\.url")
        assert urlsplit(site.database_url).password not in result.stdout + result.stderr


@pytest.fixture
def downgrade(services):
    with contextlib.closing(tls.Downgrade(urlsplit(services.database_url).port)) as front:
        yield front


def through(site, front, sslmode):
    parts = urlsplit(site.database_url)
    return parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{front.port}",
                          query=f"sslmode={sslmode}").geturl()


def test_postgres_that_claims_to_have_no_tls_gets_no_password(site, downgrade):
    """Whoever is on the way could claim that."""
    site.handler("good.event", "")
    path = site.write_config(postgres={"url": through(site, downgrade, "require")},
                             log={"level": "debug"})
    for command in ("run", "migrate"):
        result = site.leveret(command, "-c", path, timeout_s=40)
        assert_refused(result, r"server does not support SSL.*postgres\.url")
    assert downgrade.went_on == 0


def test_postgres_that_claims_to_have_no_tls_is_believed_without_sslmode(site, downgrade):
    """libpq's default, "prefer", asks and takes what it gets."""
    site.handler("good.event", "mark(event, ctx)")
    worker = site.worker(postgres={"url": through(site, downgrade, "prefer")})
    site.publish("good.event")
    site.wait_marks(1)
    assert downgrade.went_on > 0
    site.assert_settled(worker)


def test_postgres_without_tls(site):
    site.handler("good.event", "mark(event, ctx, ctx.db.query([[select ssl::text from pg_stat_ssl "
                               "where pid = pg_backend_pid()]])[1].ssl)")
    worker = site.worker(postgres={"url": postgres(site, "localhost", sslmode="disable")})
    site.publish("good.event")
    assert site.wait_marks(1)[0]["note"] == "false"
    site.assert_settled(worker)


# Redis


@pytest.mark.parametrize("command", ["check", "run"])
def test_rediss_says_that_it_is_not_supported(site, command):
    site.handler("good.event", "")
    path = site.write_config(redis={"url": f"rediss://:{PASSWORD}@localhost:6379/0"},
                             log={"level": "debug"})
    result = site.leveret(command, "-c", path, timeout_s=40)
    assert_refused(result, r"redis\.url: rediss:// \(TLS\) is not supported.*stunnel")
    assert PASSWORD not in result.stdout + result.stderr
