"""ctx.retry, reject, drop and snooze end a handler at once, even inside pcall."""
import pytest

from harness.waiting import wait

BODY = """
mark(event, ctx, 'start')
local p = event.payload
local act = function()
  if p.act == 'reject' then ctx.reject('not for us: ' .. p.act)
  elseif p.act == 'drop' then ctx.drop('of no interest')
  elseif p.act == 'retry' then ctx.retry('later please')
  elseif p.act == 'snooze' then if #redis_runs(event, ctx) < 3 then ctx.snooze(300) end
  end
end
if p.insert then
  ctx.db.exec("insert into runs (event_id, note) values ($1, $2)", event.id, p.act)
end
if p.pcall then
  pcall(act)
  if p.act ~= 'snooze' then mark(event, ctx, 'after') end
  ctx.reject('the second verdict')
else
  act()
  mark(event, ctx, 'after')
end
"""
RUNS = """
local function redis_runs(event, ctx)
  ctx.redis.rpush(MARKS .. ':' .. event.id, 'x')
  return ctx.redis.lrange(MARKS .. ':' .. event.id, 0, -1)
end
"""


@pytest.fixture(scope="module")
def worker(shared):
    shared.handler("act.now", BODY, prelude=RUNS, retry={"max": 1, "base_ms": 250})
    yield shared.worker()
    shared.redis.delete(*shared.redis.keys(shared.marks_key + ":*") or ["none"])


def notes(shared, event):
    return [mark["note"] for mark in shared.marks(id=event)]


@pytest.mark.parametrize("inside", [False, True], ids=["plain", "in-pcall"])
def test_reject_is_a_dead_letter_at_once(shared, worker, inside):
    event = shared.publish("act.now", {"act": "reject", "pcall": inside, "insert": True})
    dead = shared.dead()
    assert dead.properties.message_id == event
    assert dead.header("leveret-error") == "not for us: reject"
    assert dead.header("leveret-attempt") == 1
    assert notes(shared, event) == ["start"]
    assert not [row for row in shared.ledger() if row[2] == event]
    assert (event,) not in shared.runs(), "what it wrote is rolled back"


@pytest.mark.parametrize("inside", [False, True], ids=["plain", "in-pcall"])
def test_drop_is_done_and_commits(shared, worker, inside):
    before = worker.outcomes("dropped")
    event = shared.publish("act.now", {"act": "drop", "pcall": inside, "insert": True})
    worker.wait_outcomes("dropped", before + 1)
    assert notes(shared, event) == ["start"]
    assert (event,) in shared.runs()
    assert [row for row in shared.ledger() if row[2] == event]
    assert worker.log.records("of no interest", id=event)
    before = worker.outcomes("duplicate")
    shared.publish("act.now", {"act": "drop"}, message_id=event)
    worker.wait_outcomes("duplicate", before + 1)


@pytest.mark.parametrize("inside", [False, True], ids=["plain", "in-pcall"])
def test_retry_is_a_failed_attempt(shared, worker, inside):
    event = shared.publish("act.now", {"act": "retry", "pcall": inside, "insert": True})
    dead = shared.dead()
    assert dead.header("leveret-error") == "later please"
    assert [mark["attempt"] for mark in shared.marks(id=event)] == [1, 2]
    assert notes(shared, event) == ["start", "start"]
    assert (event,) not in shared.runs()


def test_snooze_costs_no_attempt(shared, worker):
    """Three runs, where the policy allows two attempts."""
    event = shared.publish("act.now", {"act": "snooze"})
    wait("its end", lambda: "after" in notes(shared, event))
    marks = shared.marks(id=event, note="start")
    assert [mark["attempt"] for mark in marks] == [1, 1, 1]
    for earlier, later in zip(marks, marks[1:]):
        assert 0.3 <= (later["at_us"] - earlier["at_us"]) / 1e6 <= 1.3


def test_snooze_in_pcall_rolls_back_and_stands(shared, worker):
    event = shared.publish("act.now", {"act": "snooze", "pcall": True, "insert": True})
    dead = shared.dead()  # in its third run the snooze is not asked for any more
    assert dead.properties.message_id == event
    assert dead.header("leveret-error") == "the second verdict"
    assert notes(shared, event) == ["start"] * 3
    assert (event,) not in shared.runs()
