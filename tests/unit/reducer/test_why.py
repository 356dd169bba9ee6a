"""`fedn why`, the pure part: one situation for every cause, and what its paragraph must say."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from click import Context

from fedn.cli.root import root
from fedn.domain.ids import ClientId, CombinerName, Incarnation
from fedn.domain.messages import ClientInfo
from fedn.domain.round import OVER
from fedn.reducer.network import CombinerView, NetworkView
from fedn.reducer.why import WITH_A_PACKAGE, Cause, Facts, explain
from fedn.reducer.why_answer import EVIDENCE_MOST, REMEDIES
from fedn.reducer.why_facts import Committed, Standing, Station, Told
from fedn.reducer.why_words import because, by_name, counted, grouped, listed, named, span

NOW = 1_000_000.0
ONE = (Station("combiner-1", live=True, clients=("a", "b", "c")),)
TWO = (Station("combiner-1", live=True, clients=("a", "b")),
       Station("combiner-2", live=False, seen_at=NOW - 40, had=("b", "y")))  # fmt: skip
AT_WORK = Facts("s-1", NOW, state="running", head=1, round=2, rounds=5, min_clients=2, deadline=600.0,
                phase="running", expected=3, stations=ONE)  # fmt: skip
IDLE = replace(AT_WORK, phase="waiting", expected=0, waits="waiting for clients: 0 of 2 are ready")
OVERDUE = (
    Standing("a", "folded", "combiner-1", NOW - 290), Standing("b", "folded", "combiner-1", NOW - 286),
    Standing("c", "training", "combiner-1", NOW - 299),
)  # fmt: skip
HELD = replace(AT_WORK, received=2, opened_at=NOW - 300, standings=OVERDUE, stragglers=("c",))
NO_PACKAGE = {"package": "ab" * 32, "package_there": False}
SHORT = replace(AT_WORK, waits="1 of 2 updates; waiting for more clients", received=1)
USUAL = Committed(
    3, took=10.0, seconds={"clients": 8.0, "reducing": 1.0, "committing": 1.0}, others=4, usually=9.0,
    usual={"clients": 7.0, "reducing": 1.0, "committing": 1.0},
    clients={"a": {"training": 6.0}, "b": {"training": 7.0}, "c": {"training": 8.0}},
)  # fmt: skip


def done(slow: str, seconds: float, **changed) -> Facts:
    """A committed round in which one phase took so long."""
    spent = {**USUAL.seconds, slow: seconds}
    committed = replace(USUAL, took=sum(spent.values()), seconds=spent, **changed)
    return replace(AT_WORK, phase="", head=3, committed=committed)


SITUATIONS = {
    "another reducer leads": (
        replace(AT_WORK, ready="another reducer has taken over"),
        Cause.ANOTHER_REDUCER, ["another reducer has taken over"]),
    "the reducer has just started": (
        replace(AT_WORK, phase=""), Cause.STARTING, ["has just started"]),
    "its model is being read": (
        replace(IDLE, waits="starting"), Cause.STARTING, ["has just started"]),
    "the disk is full": (
        replace(AT_WORK, hindrances={"reducer": "no room in models (No space left on device); make room"}),
        Cause.STORE_FULL, ["no room in models"]),
    "a combiner's disk is full": (
        replace(AT_WORK, hindrances={"combiner-1": "combiner combiner-1: no room in spool (No space left)"}),
        Cause.STORE_FULL, ["combiner-1", "no room in spool"]),
    "the database does not answer": (
        replace(AT_WORK, hindrances={"reducer": "MongoDB at db did not answer: refused"}),
        Cause.STORE_UNREACHABLE, ["MongoDB at db did not answer: refused"]),
    "the database can't be read for this": (
        Facts("s-1", NOW, store="MongoDB at db did not answer"), Cause.STORE_UNREACHABLE,
        ["s-1", "did not answer"]),
    "no combiner has ever come": (
        replace(IDLE, stations=()), Cause.NO_COMBINER,
        ["no combiner is connected", "none has ever registered"]),
    "the only combiner is away": (
        replace(AT_WORK, stations=TWO[1:]), Cause.NO_COMBINER, ["combiner-2 can't be reached"]),
    "a combiner went away with a round, and one of its clients moved": (
        replace(AT_WORK, stations=TWO, standings=(Standing("a", "training", "combiner-2"),
                                                  Standing("z", "training", "combiner-2"))),
        Cause.COMBINER_AWAY,
        ["combiner-2, last seen 40 s ago, is out of reach", "moved to another combiner: a and b",
                              "did not come back yet: y and z"]),
    "a combiner's link is broken": (
        replace(AT_WORK, hindrances={"combiner-1": "combiner combiner-1 is out of reach (refused)"}),
        Cause.COMBINER_AWAY, ["combiner-1 is out of reach (refused)"]),
    "a combiner lacks a plug-in": (
        replace(AT_WORK, hindrances={"combiner-1": "combiner combiner-1: no aggregator 'median'"}),
        Cause.COMBINER_FAULT, ["combiner-1, which says: no aggregator 'median'"]),
    "paused between rounds": (
        replace(IDLE, state="paused", phase="paused", waits="paused by request"),
        Cause.PAUSED, ["paused by request", "1 round of 5 are committed"]),
    "paused in a round": (
        replace(HELD, state="paused"), Cause.PAUSED, ["open round 2 is still committed", "2 of 3 updates"]),
    "too few clients": (
        replace(IDLE, min_clients=4), Cause.TOO_FEW_CLIENTS,
        ["needs 4 clients (min_clients), and 3 can take part"]),
    "nobody is there": (
        replace(IDLE, stations=(Station("combiner-1", live=True),)),
        Cause.TOO_FEW_CLIENTS, ["0 can take part", "Nobody is attached to combiner-1"]),
    "all combiners drain": (
        replace(IDLE, stations=(Station("combiner-1", live=True, drains=True),)),
        Cause.TOO_FEW_CLIENTS, ["No client is sent to combiner-1, which is being drained"]),
    "enough clients, of whom two can't": (
        replace(IDLE, unfit={"a": "its data has 3 columns", "b": "its data has 4 columns", "gone": "none"}),
        Cause.UNFIT_CLIENTS, ["1 can take part (c)", "2 clients are attached and can't take part",
                              "a and b: its data has 3 columns"]),
    "clients at another combiner": (
        replace(IDLE, hindrances={"home": "only clients of combiner-1 take part, not 2 elsewhere"}),
        Cause.CLIENTS_ELSEWHERE, ["not 2 elsewhere"]),
    "clients check themselves": (
        IDLE, Cause.CHECKING, ["clients are checking"]),
    "its package has gone": (
        replace(IDLE, min_clients=9, **NO_PACKAGE), Cause.PACKAGE_MISSING,
        ["abababababab", "not in the model store"]),
    "trainings fail because the package has gone": (
        replace(SHORT, refused={"a": "training failed: gone"}, **NO_PACKAGE),
        Cause.PACKAGE_MISSING, []),
    "refused updates": (
        replace(SHORT, refused={"a": "1 examples", "b": "0 examples", "c": "training failed: no disk"}),
        Cause.REFUSED_UPDATES, ["has 1 of the 2 updates", "2 updates refused: a and b: 1 examples",
                                "1 training failed and will be asked again: c: training failed: no disk"]),
    "failed trainings": (
        replace(SHORT, refused={"a": "training failed: out of memory"}),
        Cause.FAILED_TRAININGS, ["a: training failed: out of memory"]),
    "lost clients": (
        replace(SHORT, lost={"b": "left and did not come back within 5 s"}, standings=OVERDUE[2:]),
        Cause.LOST_CLIENTS, ["1 client lost: b: left and did not", "waits for 1 client: c is training"]),
    "a quorum that nobody is left for": (
        SHORT, Cause.TOO_FEW_CLIENTS, ["waits for more clients"]),
    "a straggler": (
        HELD, Cause.STRAGGLER, ["2 of 3 updates after 5 min", "c is training, for 5 min now (at combiner-1)",
                                "The others took 12 s in the median", "comes in 5 min at the latest",
                                "committed with what is in"]),
    "one that takes as long as the others": (
        replace(HELD, now=NOW - 285, stragglers=()), Cause.TRAINING, ["c is training"]),
    "nobody is done, and the deadline comes": (
        replace(AT_WORK, opened_at=NOW - 550, standings=OVERDUE[2:]),
        Cause.DEADLINE_NEAR, ["comes in 50 s at the latest: then it looks for other clients"]),
    "all train": (
        replace(AT_WORK, opened_at=NOW - 5, standings=OVERDUE[2:], usually=9.0), Cause.TRAINING,
        ["0 of 3 updates after 5 s", "rounds took 9 s in the median"]),
    "the mean is computed": (
        replace(AT_WORK, phase="committing", received=3), Cause.REDUCING, ["mean is being computed"]),
    "its end is being stored": (
        replace(AT_WORK, phase="ended"), Cause.REDUCING, ["is being stored"]),
    "the last validation": (
        replace(AT_WORK, phase="finishing", failed={"a": "no labels"}),
        Cause.VALIDATING, ["All 5 rounds are committed", "1 client failed at that: a: no labels"]),
    "finished": (
        replace(AT_WORK, state="finished", head=5, round=5), Cause.FINISHED,
        ["with 5 of 5 rounds committed"]),
    "stopped early": (
        replace(AT_WORK, state="finished", ended="stopped early: f1 was not better"),
        Cause.STOPPED_EARLY, ["Round 2 was never committed", "1 of 5 rounds", "f1 was not better"]),
    "stopped by somebody": (
        replace(AT_WORK, state="cancelled", ended="stopped by request"), Cause.CANCELLED,
        ["stopped by request"]),
    "failed": (
        replace(AT_WORK, state="failed", ended="selector 'x' failed: boom", unfit={"a": "no data"}),
        Cause.FAILED, ["selector 'x' failed: boom", "1 client could not take part: a: no data"]),
    "failed for its package": (
        replace(AT_WORK, state="failed", ended=f"there is no blob {'ab' * 32}", **NO_PACKAGE),
        Cause.PACKAGE_MISSING, ["not in the model store"]),
    "failed, and its package was removed since": (
        replace(AT_WORK, state="failed", ended="boom", **NO_PACKAGE), Cause.FAILED, ["boom"]),
    "a round as usual": (
        replace(AT_WORK, committed=USUAL), Cause.AS_USUAL,
        ["3 updates went into it. It took 10 s, and the session's other 4 rounds 9 s in the median",
         "clients 8 s, reducing 1 s and committing 1 s", "slowest client was c (training 8 s)",
         "the others took 6.5 s in the median"]),
    "a round of which nothing was measured": (
        replace(AT_WORK, committed=Committed(2, lost={"c": "no update by the deadline"})),
        Cause.AS_USUAL, ["2 updates went into it.", "1 client lost: c: no update by the deadline"]),
    "a round that waited for its clients": (
        done("clients", 90.0, clients={"a": {"waiting": 80.0, "training": 3.0}, "b": {"waiting": 79.0}}),
        Cause.SLOW_WAITING, ["What took longer is clients: 90 s, usually 7 s"]),
    "a round that trained for long": (
        done("clients", 40.0, clients={"a": {"waiting": 1.0, "training": 37.0}, "b": {"training": 36.0}}),
        Cause.SLOW_TRAINING, ["clients: 40 s, usually 7 s"]),
    "a round with one that trained for long": (
        done("clients", 40.0, clients={**USUAL.clients, "c": {"training": 39.0}}),
        Cause.STRAGGLER, ["slowest client was c (training 39 s); the others took 6.5 s"]),
    "a round with slow links": (
        done("clients", 300.0, clients={"a": {"training": 37.0, "uploading": 250.0}}),
        Cause.SLOW_UPLOADING, ["(training 37 s and uploading 4.2 min)"]),
    "a round that was long in the reducer": (
        done("reducing", 30.0, clients={**USUAL.clients, "c": {"training": 40.0}}), Cause.SLOW_REDUCING, []),
    "a round that was long in what nobody knows here": (
        done("dreaming", 90.0), Cause.SLOW_ROUND, ["dreaming 90 s"]),
    "a long round of which only its end is known": (
        replace(AT_WORK, committed=replace(USUAL, took=90.0, seconds={}, usual={}, clients={})),
        Cause.SLOW_ROUND, ["It took 90 s, and the session's other 4 rounds 9 s"]),
}  # fmt: skip


@pytest.mark.parametrize("situation", SITUATIONS)
def test_the_cause_is_named(situation: str) -> None:
    facts, cause, words = SITUATIONS[situation]
    found = explain(facts)
    assert found.cause is cause, found.text
    assert [part for part in words if part not in found.text] == [], found.text
    assert "  " not in found.text
    assert ".." not in found.text


PACKAGELESS = "package: this client runs packages, and the session has none; name one in the plan"


def test_where_only_a_package_is_missing_another_session_is_the_remedy() -> None:
    lost = replace(IDLE, unfit=dict.fromkeys("abc", PACKAGELESS))
    assert "start another with a package" in explain(lost).remedy
    assert "fedn run check" in explain(replace(IDLE, unfit=dict.fromkeys("ab", "no data"))).remedy
    few = replace(lost, min_clients=9)  # with a package it would wait, too
    assert "fedn client start" in explain(few).remedy


def test_remedies_name_commands_that_there_are() -> None:
    for text in (*REMEDIES.values(), WITH_A_PACKAGE):
        for quoted in re.findall(r"`fedn ([a-z -]+)`", text):
            command = root
            for name in quoted.split():
                if not name.startswith("-"):
                    command = command.get_command(Context(command), name)
            flags = {flag for option in command.params for flag in option.opts}
            assert {one for one in quoted.split() if one.startswith("-")} <= flags, quoted


def test_every_cause_has_a_situation() -> None:
    assert {cause for _, cause, _ in SITUATIONS.values()} == set(Cause)
    ended = {facts.state for facts, _, _ in SITUATIONS.values()} & OVER
    assert ended == OVER


def test_what_was_recorded_comes_with_it_word_by_word_and_bounded() -> None:
    told = (Told(7, NOW - 60, "waiting", "the session waits"),)
    found = explain(replace(HELD, told=told, lost={"d": "left " + "x" * 500}))
    assert found.evidence[0] == "c: training at combiner-1 since 5 min"
    assert "event 7, 60 s ago: the session waits" in found.evidence
    assert any(line.startswith("d: lost: left xxx") and line.endswith("…") for line in found.evidence)
    assert [(link.kind, link.id) for link in found.links] == [("client", "c"), ("event", "7")]
    assert "round_deadline" in found.remedy
    crowd = tuple(Standing(f"c-{number}", "training") for number in range(1000))
    many = explain(replace(HELD, standings=crowd, refused={one.client: f"bad {one.client}" for one in crowd}))
    assert len(many.evidence) == EVIDENCE_MOST
    assert len(many.text) < 1000
    assert "1000 clients (1000 training): c-0, c-1, c-10, c-100 and 996 more" in many.text


def test_reasons_that_differ_in_numbers_alone_are_one() -> None:
    reasons = {
        "a": "12 examples",
        "b": "7.5 examples",
        "c": f"trained from {'ab' * 8}",
        "d": "no\ndata",
        "e": "?",
    }
    assert grouped(reasons)[0] == (["a", "b"], "12 examples")
    assert because(reasons) == (
        f"a and b: 12 examples; c: trained from {'ab' * 8}; d: no data; 1 client for other reasons"
    )


def test_words() -> None:
    times = (0.01, 0.2, 3, 9.96, 45.4, 119, 180, 5000, 9000, 500_000)
    assert [span(seconds) for seconds in times] == [
        "less than 0.1 s", "0.2 s", "3 s", "10 s", "45 s", "119 s", "3 min", "83 min", "2.5 h", "6 days",
    ]  # fmt: skip
    assert [listed([]), listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])] == [
        "", "a", "a and b", "a, b and c",
    ]  # fmt: skip
    assert (counted(1, "client"), counted(0, "client")) == ("1 client", "0 clients")
    assert named({"b", "a"}) == "a and b"


def test_the_handbook_names_every_cause() -> None:
    text = (Path(__file__).parents[3] / "docs" / "operations.md").read_text()
    assert [cause for cause in Cause if f"`{cause}`" not in text] == []


def test_clients_are_told_by_name_where_that_tells_them_apart() -> None:
    infos = ("c1-ab12", "lund"), ("c2-cd34", "uppsala"), ("c3", "twin"), ("c4", "twin")
    clients = tuple(ClientInfo(ClientId(client), name) for client, name in infos)
    at = CombinerView(CombinerName("c"), "c:1", Incarnation("i"), True, clients)
    names = NetworkView(1, (at,)).unmistakable
    said = "It waits for c1-ab12, c2-cd34, c3 and c10. The slowest was c1-ab12."
    assert by_name(said, names) == "It waits for lund, uppsala, c3 and c10. The slowest was lund."
