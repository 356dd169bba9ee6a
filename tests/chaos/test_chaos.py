"""A short storm over real processes; `make chaos` makes longer ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from run import Report, chaos, trial
from schedule import AT_ONCE, Fault, draw
from world import names

COMBINERS, CLIENTS = names("combiner", 2), names("client", 6)
SEED = 264
"""Its first seconds bring something of almost every kind."""


def drawn(seed: int) -> list[Fault]:
    return draw(seed, 900.0, COMBINERS, CLIENTS)


def test_the_seed_alone_decides_the_faults() -> None:
    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert draw(1, 60.0, COMBINERS, CLIENTS) == [fault for fault in drawn(1) if fault.at < 60.0]


@pytest.mark.parametrize("seed", range(5))
def test_most_faults_are_kills_and_few_overlap(seed: int) -> None:
    faults = drawn(seed)
    assert sum(fault.kind == "kill" for fault in faults) > len(faults) / 2
    for fault in faults:
        open_ = [f for f in faults if f.at <= fault.at < f.until]
        assert len(open_) <= AT_ONCE
        assert len({f.victim for f in open_}) == len(open_)


def test_a_run_may_end_with_its_last_kill() -> None:
    faults = draw(1, 900.0, COMBINERS, CLIENTS, kills=7)
    assert sum(fault.kind == "kill" for fault in faults) == 7
    assert faults[-1].kind == "kill"


@pytest.mark.timeout(400)
def test_a_federation_lives_through_a_short_storm(tmp_path: Path) -> None:
    report = trial(tmp_path, Report(SEED), chaos(SEED, 20.0, every=2.0), rounds=8)
    print(report.summary())
    assert report.verdict.ok, report.verdict.problems
    assert report.made
