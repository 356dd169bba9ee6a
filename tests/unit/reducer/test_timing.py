"""Where a round's time goes, and who keeps it waiting."""

from __future__ import annotations

import asyncio
from typing import Any

from fedn.domain.ids import ClientId, CombinerName, Digest, Incarnation, SessionId, digest_of
from fedn.domain.messages import ClientStage
from fedn.domain.part import PartHeader
from fedn.domain.update import Absence, Contributor
from fedn.reducer.legs import Round
from fedn.reducer.timing import MOST_TOLD, RoundTimes, Stand, stragglers

A, B = CombinerName("A"), CombinerName("B")
ANN, BOB, CAT = ClientId("ann"), ClientId("bob"), ClientId("cat")
NOTHING = Digest(digest_of(b""))


class Told:
    """The events of one round; ``came`` is set by each."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.came = asyncio.Event()
        self.times = RoundTimes(4, self)

    def __call__(self, event: str, **fields: Any) -> None:
        self.events.append({"event": event, **fields})
        self.came.set()

    async def next(self) -> dict[str, Any]:
        await asyncio.wait_for(self.came.wait(), 20)
        self.came.clear()
        return self.events[-1]


def listing(**places: CombinerName) -> Round:
    return Round(4, NOTHING, 1, place={ClientId(client): at for client, at in places.items()})


async def test_every_second_of_a_round_is_of_one_phase() -> None:
    times = Told().times
    times.opened(A, [ANN])
    for phase in ("clients", "reducing", "committing", "reducing", "committing"):
        await asyncio.sleep(0.001)
        times.lap(phase)
    assert list(times.seconds) == ["clients", "reducing", "committing"]
    assert min(times.seconds.values()) >= 0.001
    times.adopted = True
    assert list(times.seconds) == ["reducing", "committing"]  # when it was opened, nobody knows
    times.close()


async def test_a_client_stands_where_the_combiner_that_lists_it_has_last_said() -> None:
    told = Told()
    times = told.times
    times.opened(A, [ANN, BOB, CAT])
    times.noted(A, [ClientStage(ANN, "training", 5.0), ClientStage(BOB, "asleep", 1.0)])
    header = PartHeader(SessionId("s"), 4, A, Incarnation("A1"), 0, NOTHING, 8,
                        (Contributor(CAT, 1, NOTHING),), lost=(Absence(ANN, "gone"),))  # fmt: skip
    shown = times.shown(listing(ann=A, bob=A, cat=B))
    states = {client: one["state"] for client, one in shown["clients"].items()}
    assert states == {"ann": "training", "bob": "waiting", "cat": "waiting"}
    assert shown["clients"]["cat"]["combiner"] == "B"  # which has said nothing of it yet
    assert shown["opened_at"] - shown["clients"]["ann"]["since"] > 4
    times.sealed(header)
    shown = times.shown(listing(ann=A, bob=A, cat=A))
    assert [shown["clients"][c]["state"] for c in ("ann", "bob", "cat")] == ["lost", "waiting", "folded"]
    event = await told.next()
    assert (event["event"], event["round"], event["more"]) == ("client_progress", 4, False)
    assert event["clients"]["ann"]["state"] == "lost"
    assert len(told.events) == 1  # all of it at once
    times.close()
    times.noted(A, [ClientStage(BOB, "training", 0.0)])
    assert times._telling is None  # of a round that is over nothing is told


async def test_an_event_names_a_bounded_number_of_clients() -> None:
    told = Told()
    told.times.opened(A, [ClientId(f"c{n}") for n in range(MOST_TOLD + 1)])
    assert await told.next() == {"event": "client_progress", "round": 4, "clients": {}, "more": True}


def test_stragglers_are_those_at_work_after_three_times_the_median() -> None:
    clients = {
        ClientId("in-1"): Stand(A, "folded", 104.0), ClientId("in-2"): Stand(A, "folded", 106.0),
        ClientId("in-3"): Stand(A, "folded", 120.0), ClientId("gone"): Stand(A, "lost", 103.0),
        ANN: Stand(A, "training", 100.0), BOB: Stand(B, "uploading", 110.0),
    }  # fmt: skip
    assert stragglers(clients, 100.0, 117.9) == {}
    late = stragglers(clients, 100.0, 118.5)
    assert late == {"seconds": 18.5, "median": 6.0, "clients": ["ann", "bob"], "more": 0}
    assert stragglers({ANN: clients[ANN]}, 100.0, 500.0) == {}  # nobody is in to compare with
    done = {client: stand for client, stand in clients.items() if client not in (ANN, BOB)}
    assert stragglers(done, 100.0, 500.0) == {}


def test_a_quick_round_never_straggles() -> None:
    clients = {ANN: Stand(A, "folded", 100.1), BOB: Stand(A, "training", 100.0)}
    assert stragglers(clients, 100.0, 104.0) == {}
    assert stragglers(clients, 100.0, 106.0)["clients"] == ["bob"]
