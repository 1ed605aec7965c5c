"""The short forms of tests/chaos/kills.py."""
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "chaos"))

import kills  # noqa: E402


@pytest.mark.parametrize("count", [30, pytest.param(300, marks=pytest.mark.full)])
def test_kills_of_lanes_lose_and_double_nothing(site, count):
    ledger = kills.run(site, count, seed=count)
    assert not kills.faults(ledger), ledger
    assert ledger["published"] > 0
