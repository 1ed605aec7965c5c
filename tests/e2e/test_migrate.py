"""`leveret migrate`: from nothing, from the seed's table, and again."""
import socket

import pytest

from harness.waiting import wait
from harness.worker import OK, UNAVAILABLE

SEED_TABLE = """
CREATE TABLE "processed_events" (
  "id" uuid PRIMARY KEY DEFAULT gen_random_uuid() NOT NULL,
  "event_id" text NOT NULL,
  "event_type" text NOT NULL,
  "processed_at" timestamp DEFAULT now() NOT NULL,
  "processor_name" text NOT NULL,
  CONSTRAINT "processed_events_event_id_unique" UNIQUE("event_id")
)"""
SEED_ROWS = """
insert into processed_events (event_id, event_type, processor_name)
select 'old-' || n, case n % 2 when 0 then 'ticket.created' else 'message.sent' end, 'worker'
from generate_series(1, 1000) n"""


@pytest.fixture
def empty(make_site):
    """A site whose database has nothing in it."""
    site = make_site()
    site.admin_sql(f'drop database "{site.database_name}"')
    site.admin_sql(f'create database "{site.database_name}"')
    yield site
    site.close()


def test_the_seeds_rows_are_kept_and_count_as_duplicates(empty):
    site = empty
    site.rows(SEED_TABLE)
    site.rows(SEED_ROWS)
    before = site.rows("select event_id, event_type, processed_at, processor_name "
                       "from processed_events order by event_id")
    said = site.migrate()
    assert "stop" in (said.stdout + said.stderr).lower(), "the seed's worker must be stopped first"
    after = site.rows("select event_id, event_type, processed_at, processor_name "
                      "from processed_events order by event_id")
    assert after == before
    assert site.rows("select distinct queue from processed_events") == [("",)]

    site.handler("ticket.created", "mark(event, ctx)")
    site.handler("message.sent", "mark(event, ctx)")
    worker = site.worker(name="worker")
    site.publish("ticket.created", message_id="old-2")
    site.publish("message.sent", message_id="old-3")
    worker.wait_outcomes("duplicate", 2)
    site.publish("message.sent", message_id="old-2")  # the seed knew it under another type
    site.publish("ticket.created", message_id="new-1")
    worker.wait_outcomes("processed", 2)
    assert {(mark["type"], mark["id"]) for mark in site.marks()} == {
        ("message.sent", "old-2"), ("ticket.created", "new-1")}
    assert site.rows("select count(*) from processed_events") == [(1002,)]
    site.assert_settled(worker)


def test_rows_of_another_processor_hide_nothing(empty):
    site = empty
    site.rows(SEED_TABLE)
    site.rows(SEED_ROWS)
    site.migrate()
    site.handler("ticket.created", "mark(event, ctx)")
    worker = site.worker(name="another")
    site.publish("ticket.created", message_id="old-2")
    worker.wait_outcomes("processed", 1)


def test_twice_is_once(empty):
    site = empty
    site.migrate()

    def shape():
        return site.rows("""select table_name, column_name, data_type, column_default
                            from information_schema.columns where table_schema = 'public'
                            order by 1, 2""")

    first = shape()
    site.rows("insert into processed_events (id, event_id, event_type, queue, processor_name) "
              "values (gen_random_uuid(), 'kept', 't', 'q', 'p')")
    site.migrate()
    assert shape() == first
    assert site.rows("select event_id from processed_events") == [("kept",)]


def test_the_seeds_writer_still_fits_the_table(empty):
    """Its columns and its primary key are where they were."""
    site = empty
    site.rows(SEED_TABLE)
    site.migrate()
    columns = dict(site.rows("select column_name, data_type from information_schema.columns "
                             "where table_name = 'processed_events'"))
    assert columns["id"] == "uuid"
    assert {"event_id", "event_type", "processed_at", "processor_name", "queue"} <= set(columns)


def test_retention_deletes_old_rows(empty):
    site = empty
    site.migrate()
    site.rows("""insert into processed_events (id, event_id, event_type, queue, processor_name,
                                               processed_at)
                 select gen_random_uuid(), 'old-' || n, 't', 'q', %s, now() - interval '30 days'
                 from generate_series(1, 5000) n""", site.prefix)
    site.rows("""insert into processed_events (id, event_id, event_type, queue, processor_name,
                                               processed_at)
                 select gen_random_uuid(), 'new-' || n, 't', 'q', %s, now()
                 from generate_series(1, 10) n""", site.prefix)
    site.handler("ticket.created", "mark(event, ctx)")
    site.worker(ledger={"retention": "7d"})
    wait("the old rows to go",
         lambda: site.rows("select count(*) from processed_events") == [(10,)], 90)


def test_migrate_says_what_it_did(empty):
    result = empty.leveret("migrate", "-c", empty.write_config())
    assert result.returncode == OK and (result.stdout + result.stderr).strip()


def test_what_does_not_answer_is_named(empty):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://u:p@127.0.0.1:{silent.getsockname()[1]}/d"
        path = empty.write_config(postgres={"url": url})
        result = empty.leveret("migrate", "-c", path)
    assert result.returncode == UNAVAILABLE, result.stderr
    assert "did not answer" in result.stderr and "DATABASE_URL" in result.stderr
