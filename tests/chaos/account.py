"""Keeps account of every event: when it was published, each run of its handler, its row, its dead
letter. One round for each fault."""
import bisect
import collections
import contextlib
import time
from dataclasses import dataclass, field

import psycopg2
from harness.broker import DEAD

from load import dead_letters, is_crash

LEAD_S = 0.5  # what is published so shortly before a fault is still under way when it strikes
RUNS_OF = {"fails": 2}  # those that a handler is asked to fail
TABLE = """
create table effects (event_id text not null, at timestamptz not null default clock_timestamp());
create index on effects (event_id);
"""


@dataclass
class Round:
    fault: str
    began: float
    ended: float = None
    strikes: list = field(default_factory=list)
    times: int = 0
    # what came of it
    published: int = 0
    recorded: int = 0
    dead: int = 0
    unasked: int = 0  # dead letters of no reason of theirs
    crashed: int = 0  # dead letters of events that are said to have killed their lane
    twice: int = 0  # dead letters beside another one of the event, or beside its record
    lost: int = 0
    changed: int = 0  # dead letters with another body
    doubled: int = 0
    without_effect: int = 0
    without_record: int = 0  # effects
    outside: int = 0
    running: int = 0  # at the strikes
    attempts: int = 0  # spent, other than by its handler's failing
    back_s: float = None  # from its end until any event was handled
    recovery_s: float = None  # until one was that was published after its end
    settled_s: float = None  # until everything from before the end was


class Account:
    def __init__(self, site, web, publisher):
        self.site = site
        self.web = web
        self.publisher = publisher
        self.rounds = []
        self.runs = collections.defaultdict(list)  # id: when each run began, and its attempt
        self.handled = {}  # id: when its effect was written
        self.letters = {}  # id: the first of its letters
        self.letter_counts = collections.Counter()
        site.rows(TABLE)

    # while it goes on

    def open(self, fault):
        self.rounds.append(Round(fault, time.time() - LEAD_S))
        return self.rounds[-1]

    def look(self):
        """Reads what has come about. A server that is away is asked the next time."""
        self._read_runs()
        open_ids = [event_id for event_id in self.publisher.confirmed() if not self.done(event_id)]
        with contextlib.suppress(psycopg2.Error, *DEAD):
            self.handled.update(self.site.rows(
                "select event_id, extract(epoch from min(at))::float8 from effects"
                " where event_id = any(%s) group by 1", open_ids))
            for letter in dead_letters(self.site):
                event_id = letter.properties.message_id
                self.letters.setdefault(event_id, letter)
                self.letter_counts[event_id] += 1

    def _read_runs(self):
        since_boot = time.time() - time.monotonic()
        count = len(self.web.requests)
        for request in self.web.requests[:count]:
            _, attempt, event_id = request.path.split("/")
            self.runs[event_id].append((request.at + since_boot, int(attempt)))
        del self.web.requests[:count]

    def done(self, event_id):
        return event_id in self.handled or event_id in self.letters

    def settled_before(self, moment):
        """Everything whose publishing began before it."""
        self.look()
        left = [event_id for event_id, event in self.publisher.events.copy().items()
                if event.began < moment and not self.done(event_id)]
        assert not left, f"{len(left)} are left, {left[0]} among them"
        return True

    def handled_after(self, moment):
        """When the first event that was published after it was handled, or None."""
        self.look()
        return min((at for event_id, at in self.handled.items()
                    if self.publisher.events[event_id].began > moment), default=None)

    def first_after(self, moment):
        """When the first event was handled, or None."""
        return min((at for at in self.handled.values() if at > moment), default=None)

    # at the end

    def balance(self):
        """Fills the rounds."""
        self._read_runs()
        events = self.publisher.confirmed()
        recorded = {row[2] for row in self.site.ledger()}
        effects = collections.Counter(row[0] for row in
                                      self.site.rows("select event_id from effects"))
        for event_id, event in events.items():
            its = self._round_at(event.began)
            letter = self.letters.get(event_id)
            its.published += 1
            its.recorded += event_id in recorded
            its.dead += letter is not None
            its.crashed += letter is not None and is_crash(letter)
            its.unasked += letter is not None and event.kind != "rejects" and not is_crash(letter)
            its.twice += max(0, self.letter_counts[event_id] - 1 + (event_id in recorded))
            its.lost += event_id not in recorded and letter is None
            its.changed += letter is not None and letter.body != event.body.encode()
            its.doubled += max(0, effects[event_id] - 1)
            its.without_effect += event_id in recorded and not effects[event_id]
            its.without_record += event_id not in recorded and effects[event_id] > 0
        for event_id, runs in self.runs.items():
            wanted = RUNS_OF.get(self.publisher.events[event_id].kind, 1)
            for at, _ in sorted(runs)[wanted:]:
                self._round_at(at).outside += 1
            for at, attempt in runs:
                self._round_at(at).attempts += attempt > wanted
        for its in self.rounds:
            its.running = sum(self._running_at(moment) for moment in its.strikes)

    def _round_at(self, moment):
        number = bisect.bisect_right([its.began for its in self.rounds], moment)
        return self.rounds[max(0, number - 1)]

    def _running_at(self, moment):
        return sum(any(at <= moment for at, _ in runs) and self.handled.get(event_id, moment) > moment
                   for event_id, runs in self.runs.items())


def merged(rounds):
    """One row for each fault, in the order in which they came first."""
    rows = {}
    for its in rounds:
        row = rows.setdefault(its.fault, Round(its.fault, its.began))
        row.times += 1
        for name in ("published", "recorded", "dead", "unasked", "crashed", "twice", "lost", "changed",
                     "doubled", "without_effect", "without_record", "outside", "running",
                     "attempts"):
            setattr(row, name, getattr(row, name) + getattr(its, name))
        for name in ("back_s", "recovery_s", "settled_s"):
            seen = [value for value in (getattr(row, name), getattr(its, name)) if value is not None]
            setattr(row, name, max(seen, default=None))
    return list(rows.values())
