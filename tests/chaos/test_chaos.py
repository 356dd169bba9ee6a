"""A short storm over real processes; `make chaos` makes longer ones."""

from __future__ import annotations

from functools import partial
from math import inf
from pathlib import Path

import pytest
from audit import Evidence, read_notes
from mutants import MUTATIONS, Mutation
from run import Made, Report, chaos, measure, trial
from schedule import AT_ONCE, KINDS, TIERS, Fault, draw
from world import names

COMBINERS, CLIENTS = names("combiner", 2), names("client", 6)
SEED, SECONDS, EVERY = 34639, 20.0, 2.0
"""They bring faults of every kind, and kills of every tier."""


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
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_federation_lives_through_a_short_storm(tls: bool, tmp_path: Path) -> None:
    expected = {(f.kind, f.tier) for f in draw(SEED, SECONDS, COMBINERS, CLIENTS, every=EVERY)}
    assert {kind for kind, _ in expected} == set(KINDS)
    assert {tier for kind, tier in expected if kind == "kill"} == set(TIERS)
    report = Report(SEED, tls)
    trial(tmp_path, report, partial(chaos, report, SECONDS, 0, EVERY), rounds=8)
    print(report.summary())
    assert report.verdict.ok, report.verdict.problems
    made = {(m.fault.kind, m.fault.tier) for m in report.made}
    assert made == {(kind, tier) for kind, tier in expected if kind != "full" or not report.no_disks}
    assert {"trained", "counted", "deleted"} <= {note[0] for note in read_notes(tmp_path / "notes")}


@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS)
def test_what_a_mutation_replaces_is_there(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    mutation.apply(monkeypatch.setattr)


def test_recovery_is_when_every_session_has_gone_on() -> None:
    times = {"finished": [0, 10, 20, 30], "stuck": [0, 15], "later": [22, 40]}
    trails = {name: [{"record": {"committed_at": t}} for t in times[name]] for name in times}
    sessions = [{"session": name, "state": "finished"} for name in times]
    made = [Made(Fault(0.0, "kill", "reducer", 1.0), wall) for wall in (5.0, 12.0, 25.0, 50.0)]
    measure(made, Evidence(sessions, trails, bytes.fromhex, {}, [], {}))
    assert [m.recovery for m in made] == [10, 8, 15, None]
    sessions[1]["state"] = "running"
    measure(made, Evidence(sessions, trails, bytes.fromhex, {}, [], {}))
    assert [m.recovery for m in made] == [10, 8, inf, inf]
