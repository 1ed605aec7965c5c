"""The accounts of tests/chaos: whatever goes wrong with an event shows, and fails the run."""
import pathlib
import sys
import time
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "chaos"))

import kills  # noqa: E402
import run  # noqa: E402
import soak  # noqa: E402
from account import Account  # noqa: E402
from load import Published  # noqa: E402

BEGAN = 1000.0


class Letter:
    def __init__(self, event_id, error="asked to reject", body=b"body"):
        self.properties = SimpleNamespace(message_id=event_id)
        self.error, self.body = error, body

    def header(self, name):
        return self.error if name == "leveret-error" else None


class World:
    """As a run would have left it: two events are good, one was rejected as it asked."""

    def __init__(self):
        self.records = ["good", "fails"]
        self.effects = ["good", "fails"]
        self.letters = [Letter("bad")]
        self.kinds = {"good": "quick", "fails": "fails", "bad": "rejects"}
        self.runs = [("good", 1), ("fails", 1), ("fails", 2), ("bad", 1)]

    # what an account asks a site, a publisher and a web server

    def rows(self, sql, *_):
        return [(event_id,) for event_id in self.effects] if sql.endswith("from effects") else []

    def ledger(self):
        return [("queue", "type", event_id) for event_id in self.records]

    def drain(self, _):
        letters, self.letters = self.letters, []
        return letters

    def confirmed(self):
        return self.events

    def balance(self, fault):
        since_boot = time.time() - time.monotonic()
        self.broker, self.dead_letter = self, "dead"
        self.events = {event_id: Published(kind, "body", BEGAN, BEGAN)
                       for event_id, kind in self.kinds.items()}
        self.requests = [SimpleNamespace(path=f"/{attempt}/{event_id}", at=BEGAN + n - since_boot)
                         for n, (event_id, attempt) in enumerate(self.runs)]
        account = Account(self, self, self)
        its = account.open(fault)
        its.began, its.recovery_s = BEGAN, 1.0
        account.look()
        account.balance()
        return its


def test_a_good_run(capsys):
    its = World().balance("postgres-kill")
    assert (its.published, its.recorded, its.dead, its.outside) == (3, 2, 1, 0)
    assert run.verdict([its], 0, 1) == 0
    assert "all is as it must be" in capsys.readouterr().out


WRONGS = {
    "lost": lambda world: world.kinds.update(gone="quick"),
    "doubled": lambda world: world.effects.append("good"),
    "without_effect": lambda world: world.effects.remove("good"),
    "without_record": lambda world: world.records.remove("good"),
    "changed": lambda world: world.letters.append(Letter("more", body=b"other")),
    "unasked": lambda world: world.letters.append(Letter("good", "PostgreSQL is away")),
    "crashed": lambda world: world.letters.append(Letter("good", "crash: SIGSEGV in handler")),
    "attempts": lambda world: world.runs.append(("fails", 3)),
}


@pytest.mark.parametrize("name", WRONGS)
def test_what_goes_wrong_fails_the_run(name):
    world = World()
    if name == "changed":
        world.kinds["more"] = "rejects"
    WRONGS[name](world)
    its = world.balance("postgres-kill")
    assert getattr(its, name) == 1
    assert run.verdict([its], 0, 1) == 1


def test_an_attempt_that_was_spent_without_a_run_shows():
    world = World()
    world.runs[0] = ("good", 2)
    its = world.balance("postgres-kill")
    assert (its.attempts, its.outside) == (1, 0)


def test_a_second_letter_and_a_letter_beside_a_record_show():
    world = World()
    world.letters += [Letter("bad"), Letter("good")]
    assert world.balance("postgres-kill").twice == 2


def test_a_lane_that_dies_may_be_charged_to_its_events():
    world = World()
    world.letters.append(Letter("more", "crash: SIGKILL in handler"))
    world.kinds["more"] = "quick"
    world.runs.append(("more", 2))
    assert run.verdict([world.balance("lane-kill")], 0, 1) == 0


def test_no_recovery_and_a_lane_that_dies_by_itself_fail_the_run():
    its = World().balance("postgres-kill")
    assert run.verdict([its], 1, 1) == 1
    its.recovery_s = None
    assert run.verdict([its], 0, 1) == 1


@pytest.mark.parametrize("name", [*kills.MUST_BE_NONE, "doubled outside"])
def test_each_fault_of_a_run_of_kills(name):
    ledger = {**dict.fromkeys(kills.MUST_BE_NONE, 0), "doubled outside": 3,
              "under way at the kills": 3}
    assert kills.faults(ledger) == []
    ledger[name] += 1
    assert len(kills.faults(ledger)) == 1


class SoakWorld(World):
    def rows(self, sql, *_):
        if sql.startswith("select"):
            return [(0,)]
        return [(event_id, BEGAN + 0.01) for event_id in self.effects]

    def wrongs(self):
        self.broker, self.dead_letter = self, "dead"
        self.events = {event_id: Published(kind, "body", BEGAN, BEGAN)
                       for event_id, kind in self.kinds.items()}
        account = soak.Account(self, self)
        account.close()
        assert not self.events, "what is settled is forgotten"
        return +account.wrong


SOAK_WRONGS = {
    "lost": lambda world: world.effects.remove("good"),
    "doubled": lambda world: world.effects.append("good"),
    "handled otherwise than asked": lambda world: world.kinds.update(bad="quick"),
    "doubled, and late": lambda world: world.letters.append(Letter("forgotten")),
}


@pytest.mark.parametrize("name", SOAK_WRONGS)
def test_what_goes_wrong_shows_in_a_soak(name):
    world = SoakWorld()
    assert not world.wrongs()
    world = SoakWorld()
    SOAK_WRONGS[name](world)
    assert world.wrongs() == {name: 1}


def test_growth_shows_in_a_soak():
    def periods(kib=0, files=0):
        return [soak.Period(0, 0.0, [9000, 12000 + number * kib], 60 + number * files)
                for number in range(20)]

    assert soak.grown(periods(kib=10)) == []
    assert soak.grown(periods(kib=300)) == ["lane 1 grew"]
    assert soak.grown(periods(files=1)) == ["open files grew"]
    assert soak.grown(periods(kib=300)[:9]) == [], "too soon to tell"
