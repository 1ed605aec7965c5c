"""What each setting of the tuning page does, with everything else as it comes."""
from bench.growth import rate
from bench.leveret import handlers
from bench.site import QUEUE


def prefetch(site, values, count, kind):
    for value in values:
        site.new_database("leveret")
        yield value, rate(site, count, kind=kind,
                          rabbitmq={"prefetch": value, "queue_type": kind}, concurrency=value // 2)


def concurrency(site, values, count):
    """Handlers that wait 20 ms each."""
    folder = site.work / "tuning-waits"
    folder.mkdir(exist_ok=True)
    (folder / "ticket.created.lua").write_text(
        f'return {{ queue = "{QUEUE}", bind = false,\n'
        '  handle = function(event, ctx) ctx.sleep(20) end }\n')
    for value in values:
        site.new_database("leveret")
        yield value, rate(site, min(count, max(500, value * 40)), folder=folder, concurrency=value)


def pool(site, values, count):
    for value in values:
        site.new_database("leveret")
        yield value, rate(site, count, folder=handlers("db"),
                          postgres={"url": site.database_url(), "pool": value})


def lanes(site, values, count, folder):
    for value in values:
        site.new_database("leveret")
        yield value, rate(site, count, folder=handlers(folder), lanes=value)


def log_level(site, values, count):
    """At info each event has its line."""
    for value in values:
        site.new_database("leveret")
        yield value, rate(site, count, log={"level": value})
