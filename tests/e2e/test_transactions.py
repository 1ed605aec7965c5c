"""What a handler writes through ctx.db and the ledger's record commit together."""
import pytest

from harness.waiting import wait

INSERT = """
ctx.db.exec('insert into runs (event_id, attempt) values ($1, $2)', event.id, event.attempt)
"""
FAST = {"max": 2, "base_ms": 250}


@pytest.fixture(scope="module")
def worker(shared):
    shared.handler("db.writes", f"mark(event, ctx) {INSERT} mark(event, ctx, 'end')")
    shared.handler("db.fails-twice", f"""
        mark(event, ctx) {INSERT}
        if event.attempt < 3 then error('after the insert') end""", retry=FAST)
    shared.handler("db.bad-value", """
        mark(event, ctx) ctx.db.exec("insert into runs (attempt) values ($1)", 'not a number')""")
    shared.handler("db.nul", """
        mark(event, ctx) ctx.db.exec("insert into runs (note) values ($1)", event.payload.text)""",
                   retry=FAST)
    shared.handler("db.no-table", "mark(event, ctx) ctx.db.query('select * from missing')",
                   retry={"max": 1, "base_ms": 250})
    shared.handler("db.reads", """
        local rows = ctx.db.query([[
            select 1 as int, 9007199254740993::bigint as big, 1.5::float8 as float, true as yes,
                null::text as none, 'text' as text, '{"a": [1, 2.0, {}]}'::jsonb as json,
                12345678901234567890.123::numeric as exact
            from generate_series(1, 2)]])
        local changed = ctx.db.exec(
            "insert into runs (event_id) select $1 from generate_series(1, 3)", event.id)
        local empty = ctx.db.query("select 1 where false")
        mark(event, ctx, {
          rows = #rows, int = rows[1].int, big = rows[1].big, float = rows[1].float,
          yes = rows[1].yes, none = rows[1].none == nil or rows[1].none == ctx.null,
          text = rows[2].text, changed = changed, empty = #empty,
          exact = tostring(rows[1].exact), json = rows[1].json.a[2] })""")
    shared.handler("db.caught", """
        local ok, err = pcall(ctx.db.exec, "insert into runs (number) values (1), (1)")
        mark(event, ctx, {ok = ok, err = tostring(err)})
        error('gives up')""", retry={"max": 0})
    shared.handler("db.parallel",
                   INSERT + "ctx.db.query('select pg_sleep(0.1)') mark(event, ctx)",
                   concurrency=20)
    shared.handler("db.invalidates", f"""
        {INSERT}
        local count = ctx.cache.invalidate(event.payload.pattern)
        mark(event, ctx, {{count = count == nil or count == ctx.null}})
        ctx.sleep(200)
        mark(event, ctx, {{left = #ctx.redis.keys(event.payload.pattern)}})
        if event.payload.fail then ctx.reject('rolled back') end""")
    return shared.worker(postgres={"pool": 4})


def row_count(shared, event):
    return shared.rows("select count(*) from runs where event_id = %s", event)[0][0]


def ledger_ids(shared):
    return {row[2] for row in shared.ledger()}


def test_the_row_and_the_record_commit_together(shared, worker):
    event = shared.publish("db.writes")
    worker.wait_outcomes("processed", 1, event="db.writes")
    assert row_count(shared, event) == 1
    assert event in ledger_ids(shared)
    both = shared.rows("""select r.xmin = p.xmin from runs r join processed_events p
                          using (event_id) where event_id = %s""", event)
    assert both == [(True,)], "one transaction wrote them"


def test_an_error_rolls_both_back(shared, worker):
    event = shared.publish("db.fails-twice")
    worker.wait_outcomes("processed", 1, event="db.fails-twice")
    assert shared.rows("select attempt from runs where event_id = %s", event) == [(3,)]
    assert len(shared.marks(id=event)) == 3


def test_a_duplicate_writes_nothing(shared, worker):
    event = shared.publish("db.writes")
    wait("the record", lambda: event in ledger_ids(shared))
    before = worker.outcomes("duplicate")
    shared.publish("db.writes", message_id=event)
    worker.wait_outcomes("duplicate", before + 1)
    assert row_count(shared, event) == 1


def test_an_event_without_an_id_writes_too(shared, worker):
    before = len(shared.runs())
    ids = len(shared.ledger())
    shared.publish("db.writes", message_id=None)
    wait("its row", lambda: len(shared.runs()) == before + 1)
    assert len(shared.ledger()) == ids


@pytest.mark.parametrize("event_type,payload", [
    ("db.bad-value", None), ("db.nul", {"text": "a\0b"})], ids=["class-22", "nul"])
def test_data_that_can_never_be_stored_is_a_dead_letter_at_once(shared, worker, event_type,
                                                                payload):
    event = shared.publish(event_type, payload)
    dead = shared.dead()
    assert dead.properties.message_id == event
    assert len(shared.marks(id=event)) == 1
    assert dead.header("leveret-attempt") == 1


def test_other_sql_errors_are_failed_attempts_that_name_the_error(shared, worker):
    event = shared.publish("db.no-table")
    dead = shared.dead()
    assert len(shared.marks(id=event)) == 2
    assert "missing" in dead.header("leveret-error")


def test_what_a_query_returns(shared, worker):
    event = shared.publish("db.reads")
    note = shared.wait_marks(1, id=event)[0]["note"]
    assert note == {"rows": 2, "int": 1, "big": 9007199254740993, "float": 1.5, "yes": True,
                    "none": True, "text": "text", "changed": 3, "empty": 0,
                    "exact": "12345678901234567890.123", "json": 2.0}


def test_an_sql_error_can_be_caught(shared, worker):
    event = shared.publish("db.caught")
    shared.dead()
    note = shared.marks(id=event)[0]["note"]
    assert note["ok"] is False and "duplicate key" in note["err"]


def test_more_transactions_than_the_pool_has_connections(shared, worker):
    ids = {shared.publish("db.parallel", confirm=False) for _ in range(20)}
    worker.wait_outcomes("processed", 20, event="db.parallel")
    assert {mark["id"] for mark in shared.marks(type="db.parallel")} == ids
    assert ids <= ledger_ids(shared)


def test_an_invalidation_in_a_transaction_waits_for_the_commit(shared, worker, redis):
    for number in range(5):
        redis.set(f"{shared.prefix}:cache:{number}", "x")
    pattern = shared.prefix + ":cache:*"
    rolled_back = shared.publish("db.invalidates", {"pattern": pattern, "fail": True})
    assert shared.dead().properties.message_id == rolled_back
    assert [mark["note"] for mark in shared.marks(id=rolled_back)] == [{"count": True}, {"left": 5}]
    assert len(redis.keys(pattern)) == 5
    event = shared.publish("db.invalidates", {"pattern": pattern})
    wait("the keys to go", lambda: not redis.keys(pattern))
    assert [mark["note"] for mark in shared.marks(id=event)] == [{"count": True}, {"left": 5}]
    assert event in ledger_ids(shared)


def test_an_answer_that_is_too_large_is_a_failed_attempt(site):
    """Also where the handler goes on: what it wrote is not committed."""
    site.handler("db.large", """
        ctx.db.exec('insert into runs (event_id) values ($1)', event.id)
        local ok, why = pcall(ctx.db.query, "select repeat('x', 1000) from generate_series(1, 50000)")
        mark(event, ctx, tostring(why))
        if event.payload.more then ctx.db.exec('select 1') end""", retry={"max": 1, "base_ms": 250})
    site.handler("db.small", "mark(event, ctx, #ctx.db.query("
                 "'select n, repeat($1, 10) from generate_series(1, 10000) n', 'x'))")
    worker = site.worker()
    for more in (False, True):
        event = site.publish("db.large", {"more": more})
        dead = site.dead()
        assert dead.properties.message_id == event
        assert "larger than 16 MiB" in dead.header("leveret-error")
        assert [mark["attempt"] for mark in site.marks(id=event)] == [1, 2]
        assert all("54000" in mark["note"] for mark in site.marks(id=event)), site.marks(id=event)
    assert not site.runs() and not site.ledger()
    small = site.publish("db.small")
    assert site.wait_marks(1, id=small)[0]["note"] == 10000
    site.assert_settled(worker)
