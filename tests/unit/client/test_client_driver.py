"""The client's driver: its pauses, and what becomes of work that breaks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedn.client import events as ev
from fedn.client.journal import FileJournal
from fedn.client.pauses import backoff
from fedn.domain.ids import PROTOCOL_VERSION, CombinerName, Incarnation, SessionId, digest_of
from fedn.domain.messages import Beat, UpdateOffered, Welcome
from fedn.domain.update import UpdateHeader
from fedn.testing.federation import Federation

SMALL, LARGE = {"w": np.zeros(4)}, {"w": np.zeros(20_000)}
"""A small model and its updates ride along; a large one is fetched, its updates are uploaded."""


@pytest.mark.parametrize(
    ("attempt", "most"), [(0, 0.1), (1, 0.2), (5, 3.2), (6, 5.0), (1024, 5.0), (10**6, 5.0)]
)
def test_pauses_grow_to_a_bound_and_stay_there(attempt: int, most: float) -> None:
    assert most / 2 <= backoff(attempt) <= most


class Counting:
    """Remembers its rounds; raises what it is told to, once."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.trained: list[int] = []
        self.error = error

    def train(self, model: Any, config: Any) -> Any:
        self.trained.append(config["round"])
        error, self.error = self.error, None
        if error:
            raise error
        return model, 10


class Unprintable(Exception):
    """Not even its own reason can be told."""

    def __str__(self) -> str:
        raise self


class Clumsy:
    """A link to a combiner that breaks as no link should, once in each of the calls named."""

    def __init__(self, link: Any, faults: dict[str, BaseException]) -> None:
        self._link, self._faults = link, faults

    def __getattr__(self, name: str) -> Any:
        if name not in self._faults:
            return getattr(self._link, name)
        return partial(_stream if name == "fetch_model" else _call, self._faults.pop(name))


async def _call(error: BaseException, *_: Any) -> None:
    raise error


async def _stream(error: BaseException, *_: Any) -> AsyncIterator[bytes]:
    raise error
    yield b""


async def two_clients(federation: Federation, second: Counting) -> None:
    await federation.add_combiner("combiner-1")
    await federation.story.until("network_changed", combiners=1)
    await federation.add_client("client-1", Counting())
    await federation.add_client("client-2", second)


def contributors(federation: Federation, session: Any, number: int) -> list[str]:
    return sorted(c.client for c in federation.state.record(session, number).record.contributors)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SystemExit(3), "app.train(): raised SystemExit"),
        (KeyboardInterrupt("no"), "app.train(): raised KeyboardInterrupt"),
        (asyncio.CancelledError("stop"), "app.train(): raised CancelledError"),
        (Unprintable(), "app.train(): raised Unprintable"),
    ],
    ids=lambda value: "" if isinstance(value, str) else type(value).__name__,
)
async def test_whatever_the_users_code_raises_fails_its_task_alone(
    tmp_path: Path, error: BaseException, reason: str
) -> None:
    async with Federation(tmp_path) as federation:
        app = Counting(error)
        await two_clients(federation, app)
        await federation.story.until("network_changed", clients=2)
        info = await federation.start_session(SMALL, rounds=2, min_clients=1, validate=False)
        await federation.story.until("session_finished")
        [absence] = federation.state.record(info.session, 1).record.refused
        assert absence.client == "client-2"
        assert reason in absence.reason
        assert contributors(federation, info.session, 2) == ["client-1", "client-2"]
        assert app.trained == [1, 2]


async def clumsy_client(federation: Federation, **faults: BaseException) -> Counting:
    """The second client's link has these faults."""
    app = Counting()
    await two_clients(federation, app)
    client = federation.clients["client-2"]
    dial = client._dial
    client._dial = lambda address, name: Clumsy(dial(address, name), faults)
    await federation.story.until("network_changed", clients=2)
    return app


async def test_an_upload_that_breaks_in_an_unknown_way_is_offered_again(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        app = await clumsy_client(federation, submit=ZeroDivisionError("a bug"))
        info = await federation.start_session(LARGE, rounds=1, min_clients=2, validate=False)
        await federation.story.until("session_finished")
        assert contributors(federation, info.session, 1) == ["client-1", "client-2"]
        assert app.trained == [1]


async def test_work_that_is_cancelled_although_nobody_asked_for_it_has_failed(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        app = await clumsy_client(federation, fetch_model=asyncio.CancelledError())
        info = await federation.start_session(LARGE, rounds=2, min_clients=1, validate=False, check=False)
        await federation.story.until("session_finished")
        [absence] = federation.state.record(info.session, 1).record.refused
        assert absence.client == "client-2"
        assert "internal fault" in absence.reason
        assert app.trained == [2]


async def test_an_update_whose_file_was_emptied_is_offered_without_its_bytes(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        await two_clients(federation, Counting())
        client, file = federation.clients["client-1"], b"weights"
        digest = digest_of(file)
        header = UpdateHeader(SessionId("s"), 1, client.info.client, digest, 1, len(file), digest, digest)
        client._journal.add(header, file)
        (tmp_path / "client-1" / "journal" / "s-1.update").write_bytes(b"")
        client._offer(header)
        assert client._outbox.get_nowait() == UpdateOffered(header, b"")


class Effusive:
    """A combiner that welcomes again and again."""

    def __init__(self) -> None:
        self.said = asyncio.Event()

    async def attach(self, _: AsyncIterator[Any]) -> AsyncIterator[Welcome]:
        for _ in range(100):
            yield Welcome(PROTOCOL_VERSION, CombinerName("combiner-1"), Incarnation("one"), 2.0)
        self.said.set()
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Nothing to close."""


async def test_a_combiner_that_welcomes_again_and_again_is_not_given_more_beats_for_it(
    tmp_path: Path,
) -> None:
    async with Federation(tmp_path) as federation:
        await federation.add_combiner("combiner-1")
        await federation.story.until("network_changed", combiners=1)
        client = await federation.add_client("client-1", Counting())
        await federation.story.until("attached")
        combiner, before = Effusive(), len(asyncio.all_tasks())
        client._dial = lambda *_: combiner  # type: ignore[assignment,return-value]
        federation.cut("combiner-1")
        await combiner.said.wait()
        assert len(federation.story.named("attached")) == 2
        assert len(asyncio.all_tasks()) < before + 50


class Stuck(FileJournal):
    """The disk takes its time with what is settled, until it is let go."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, 2**20)
        self.settling, self.let_go = threading.Event(), threading.Event()

    def settle(self, session: SessionId, round: int) -> None:
        self.settling.set()
        assert self.let_go.wait(20), "whoever lets it go was kept waiting itself"
        super().settle(session, round)


async def test_a_slow_disk_holds_up_nothing_but_what_hangs_on_it(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        await two_clients(federation, Counting())
        client, journal = federation.clients["client-2"], Stuck(tmp_path / "stuck")
        client._journal = journal
        await federation.story.until("network_changed", clients=2)
        await federation.start_session(SMALL, rounds=2, min_clients=2, validate=False)
        await asyncio.to_thread(journal.settling.wait, 60)
        await federation.story.until("working", round=2, kind="train", count=2)  # it takes its next task
        client._send(Beat())
        async with asyncio.timeout(20):
            while client._outbox.qsize():  # the beat goes out
                await asyncio.sleep(0)
        await federation.story.until("settled", round=1)
        assert len(federation.story.named("settled")) == 1  # by the other client
        assert [held.round for held in journal.held()] == [1]
        journal.let_go.set()
        await federation.story.until("session_finished")
        await federation.story.until("settled", count=4)
        assert journal.held() == []


class Failing:
    """Fails when it is told to."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def train(self, model: Any, config: Any) -> Any:
        self.begun.set()
        self.go.wait(60)
        raise ValueError("no")


@pytest.mark.parametrize(("wanted", "level"), [(True, "ERROR"), (False, "INFO")])
async def test_only_the_failure_of_a_task_that_somebody_waits_for_is_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, wanted: bool, level: str
) -> None:
    caplog.set_level("INFO", "fedn.client")
    app = Failing()
    async with Federation(tmp_path) as federation:
        await two_clients(federation, app)  # type: ignore[arg-type]
        await federation.story.until("network_changed", clients=2)
        info = await federation.start_session(SMALL, rounds=1, min_clients=1, validate=False, check=False)
        await asyncio.to_thread(app.begun.wait, 60)
        if not wanted:
            federation.clients["client-2"]._decide(ev.UpdateEnded(info.session, 1, ""))
        app.go.set()
        async with asyncio.timeout(20):
            while not (told := [r for r in caplog.records if "task train failed" in r.message]):
                await asyncio.sleep(0.01)
    assert [record.levelname for record in told] == [level]
