"""The connection to PostgreSQL is cut behind each byte of what is said there about one event: before
its claim, within its COMMIT, before the answer to that. Its effect is there once, at no cost of an
attempt, and the next event finds PostgreSQL again."""
import collections
import contextlib
import time

import pytest

from harness.proxy import Proxy, through
from harness.waiting import wait

WORKERS = 12  # side by side: most of the time one waits for its connection to be made again
STEP = 41  # of the short form
RECOVERY_S = 8  # 5 on a machine that has nothing else to do
# What each run leaves, whatever is rolled back, is a mark; a row is left by a commit alone.
BODIES = {
    "transaction": "mark(event, ctx) ctx.db.exec('insert into runs (event_id, attempt) "
                   "values ($1, $2)', event.id, event.attempt)",
    "record": "mark(event, ctx)",
}


class Place:
    """A worker with a database of its own, and the only way to it."""

    def __init__(self, site, body):
        self.site = site
        self.proxy = Proxy(site.services.port("postgres"))
        site.handler("cut.event", body, retry={"max": 0})
        self.worker = site.worker(postgres={
            "url": through(site.database_url, self.proxy, query="sslmode=disable")})

    def recorded(self, event):
        return self.site.rows("select 1 from processed_events where event_id = %s", event)

    def settle(self, events, timeout_s=30):
        wait("their records", lambda: all(map(self.recorded, events)), timeout_s)

    def bytes_of_one(self):
        """What an event takes, with everything that is said anyway meanwhile."""
        before = self.proxy.passed
        self.settle([self.site.publish("cut.event")])
        wait("nothing in hand", lambda: self.worker.metric("leveret_in_flight") == 0)
        return self.proxy.passed - before


def cut_each(places, offsets):
    """By turns of all the places. Returns the longest recovery, and the cuts that came about."""
    worst_s = cuts = 0
    while offsets:
        turn = [(place, offsets.pop()) for place in places[:len(offsets)]]
        for place, _ in turn:  # whose connections are there again after this
            place.settle([place.site.publish("cut.event")])
        events = {}
        for place, offset in turn:
            place.proxy.cut_after(offset)
            events[place] = place.site.publish("cut.event")
        began = time.monotonic()
        for place, event in events.items():
            place.settle([event])
        worst_s = max(worst_s, time.monotonic() - began)
        for place in events:
            cuts += place.proxy.fuse_bytes is None
            place.proxy.mend()
    return worst_s, cuts


def check(place, kind):
    """Each effect once; each run that was doubled is one that a cut took back, and costs nothing."""
    ids = [row[2] for row in place.site.ledger()]
    assert len(ids) == len(set(ids))
    runs = collections.Counter(mark["id"] for mark in place.site.marks())
    assert {mark["attempt"] for mark in place.site.marks()} == {1}
    assert set(runs) == set(ids)
    assert max(runs.values()) <= 2, "one cut doubles at most one run"
    if kind == "transaction":
        assert collections.Counter(place.site.runs()) == {(event,): 1 for event in ids}
    assert not place.site.broker.depth(place.site.dead_letter)
    place.site.assert_settled(place.worker)
    return sum(runs.values()) - len(runs)


@pytest.mark.parametrize("step", [STEP, pytest.param(1, marks=pytest.mark.full)])
@pytest.mark.parametrize("kind", BODIES)
def test_a_cut_behind_each_byte_of_an_event(make_site, kind, step):
    with contextlib.ExitStack() as stack:
        places = []
        for _ in range(WORKERS if step == 1 else 4):
            site = make_site()
            stack.callback(site.close)
            places.append(Place(site, BODIES[kind]))
            stack.callback(places[-1].proxy.close)
        sizes = sorted(places[0].bytes_of_one() for _ in range(9))  # more where one is prepared
        size = sizes[len(sizes) // 2]
        offsets = list(range(1, size + 1, step))
        worst_s, cuts = cut_each(places, offsets.copy())
        doubled = sum(check(place, kind) for place in places)
        print(f"{kind}: {size} bytes, {cuts} cuts, {doubled} runs doubled, "
              f"back after {worst_s:.1f} s at the longest")
        assert cuts >= 0.7 * len(offsets)  # what is said varies a little
        assert worst_s <= RECOVERY_S
