"""What clients say of a model: what one combiner spoils is not everybody's loss, and nobody counts twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from fedn.domain import messages as m
from fedn.domain.errors import Damaged
from fedn.domain.ids import ClientId, CombinerName, Incarnation, SessionId, digest_of
from fedn.domain.round import ValidationSpec
from fedn.reducer.network import Station
from fedn.reducer.validating import Answers, gather

MODEL = digest_of(b"model")
ANN, BOB, EVE = ClientId("ann"), ClientId("bob"), ClientId("eve")


class Answering:
    """A live peer with one client, which reports at once; then ``fault`` is raised, if there is one."""

    live = True

    def __init__(self, name: str, fault: Exception | None = None, never: asyncio.Event | None = None) -> None:
        self.name, self.incarnation = CombinerName(name), Incarnation(name)
        self.station = Station(self.incarnation, frozenset({ClientId(f"at-{name}")}))
        self._fault, self._never = fault, never
        self.left = False

    async def stream(self, *_: object) -> AsyncIterator[m.ValidationEvent]:
        try:
            (client,) = self.station.clients
            yield m.ModelValidated(SessionId("s"), 1, client, MODEL, 3, {"accuracy": 1.0})
            if self._fault:
                raise self._fault
            if self._never:
                await self._never.wait()
        finally:
            self.left = True


class Saying(Answering):
    """A live peer with Ann and Bob that says just this."""

    def __init__(self, name: str, *said: m.ValidationEvent) -> None:
        super().__init__(name)
        self.station = Station(self.incarnation, frozenset({ANN, BOB}))
        self._said = said

    async def stream(self, *_: object) -> AsyncIterator[m.ValidationEvent]:
        for event in self._said:
            yield event


def spec_for(clients: tuple[ClientId, ...]) -> ValidationSpec:
    return ValidationSpec(1, SessionId("s"), 1, MODEL, 10, clients, "{}", 0, 60.0)


def report(client: ClientId, accuracy: float) -> m.ModelValidated:
    return m.ModelValidated(SessionId("s"), 1, client, MODEL, 3, {"accuracy": accuracy})


@pytest.fixture
def failed() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def answers(failed: list[tuple[str, str]]) -> Answers:
    return Answers(lambda client, reason: failed.append((client, reason)))


@pytest.mark.parametrize("fault", [Damaged("torn"), ValueError("no such kind")], ids=repr)
async def test_what_goes_wrong_at_one_combiner_costs_no_other_its_answers(answers, fault: Exception) -> None:
    await gather([Answering("a"), Answering("b", fault), Answering("c")], spec_for, answers)
    assert sorted(answers.rows) == ["at-a", "at-b", "at-c"]


async def test_who_is_cancelled_asks_nobody_any_more(answers) -> None:
    never = asyncio.Event()
    peers = [Answering("a", never=never), Answering("b", never=never)]
    asking = asyncio.create_task(gather(peers, spec_for, answers))
    while len(asyncio.all_tasks()) < 4:
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])
    assert asking.cancelled()
    assert len(asyncio.all_tasks()) == 1


async def test_a_client_that_fails_is_told_of_once_and_its_report_wins_wherever_it_comes(
    answers, failed
) -> None:
    left = m.ClientFailed(ANN, "left before it reported")
    boom = m.ClientFailed(BOB, "boom")
    await gather([Saying("a", left, boom, left, boom)], spec_for, answers)
    await gather([Saying("b", report(ANN, 0.5), report(ANN, 0.9), boom)], spec_for, answers)
    assert failed == [(ANN, "left before it reported"), (BOB, "boom")]
    assert answers.failed == {BOB: "boom"}
    assert {client: row.metrics["accuracy"] for client, row in answers.rows.items()} == {ANN: 0.5}


async def test_a_combiner_is_not_believed_for_clients_that_were_not_asked_there(answers, failed) -> None:
    await gather([Saying("a", report(EVE, 1.0), m.ClientFailed(EVE, "boom"))], spec_for, answers)
    assert (answers.rows, failed) == ({}, [])
