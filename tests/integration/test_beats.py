"""Silence: a client that should be at work and says nothing is gone; one that was only busy comes back."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federations import Running, names, running

from fedn.combiner.entrance import Entrance, Hooks
from fedn.combiner.limits import Limits
from fedn.domain import messages as m
from fedn.domain.gauges import Gauges
from fedn.domain.ids import PROTOCOL_VERSION, ClientId, CombinerName, Incarnation, SessionId, digest_of
from fedn.domain.round import ValidationSpec
from fedn.helpers.files import seed_file
from fedn.ports import ClientLink
from fedn.testing.federation import Federation

BUSY_APP = f"{Path(__file__).with_name('busy_app.py')}:app"
SILENT = re.compile(r"fell silent \(nothing heard for ([\d.]+) s\)")


def log_of(federation: Running, name: str) -> str:
    return federation.sandbox.processes[name].log.read_text()


def test_a_stopped_client_is_lost_by_name_and_told_so_when_it_wakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat = 0.5
    with running(tmp_path, monkeypatch, combiners=0, clients=3) as federation:
        federation.sandbox.start_combiner("combiner-1", f"--beat={beat}", "--client-grace=1")
        for index in range(3):
            federation.sandbox.start_client(index, "--log-level=debug")
        federation.attached(3)
        session = federation.start(rounds=1, min_clients=2)
        federation.until(lambda: "working" in log_of(federation, "client-3"))
        stopped = federation.sandbox.processes["client-3"].popen
        stopped.send_signal(signal.SIGSTOP)
        federation.until(lambda: SILENT.search(log_of(federation, "combiner-1")))
        federation.open_gate()

        federation.finished(session)
        [_, record] = federation.records(session)
        [lost] = record["lost"]
        assert lost["client"].startswith("client-3-")
        assert lost["reason"].endswith("and did not come back within 1 s")
        said = SILENT.search(lost["reason"])
        assert said
        assert 2 * beat <= float(said[1]) < 3 * beat  # by the combiner's clock, see `silence`
        assert names(record) == ["client-1", "client-2"]

        stopped.send_signal(signal.SIGCONT)
        federation.until(lambda: "settled" in log_of(federation, "client-3"))
        story = log_of(federation, "client-3")
        assert story.rindex(" attached") < story.index("settled")  # it came back before it was told
        assert re.search(r"settled.*counted=False", story)
        assert federation.trained(2) == [1]
        assert federation.audit(session) < 1e-6


@pytest.mark.parametrize("grace", [5.0, 0.2], ids=["within its grace", "lost meanwhile"])
def test_a_client_that_could_not_beat_while_it_trained_counts_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grace: float
) -> None:
    with running(tmp_path, monkeypatch, combiners=0, clients=1) as federation:
        federation.sandbox.app = BUSY_APP
        federation.sandbox.start_combiner("combiner-1", "--beat=0.2", f"--client-grace={grace}")
        federation.sandbox.start_client(0)
        federation.attached(1)
        session = federation.start(rounds=1, min_clients=1, validate=False)

        federation.finished(session)
        assert SILENT.search(log_of(federation, "combiner-1"))
        assert names(federation.records(session)[1]) == ["client-1"]
        assert federation.trained(0) == [1]
        assert federation.audit(session) < 1e-6


def test_a_stopped_combiner_is_noticed_by_the_clients_and_by_the_reducer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("federations.PATIENCE", 30.0)  # gRPC alone would give a silent neighbour a minute
    with running(tmp_path, monkeypatch, combiners=2, clients=1) as federation:
        federation.sandbox.start_client(0, "--combiner=combiner-1", "--log-level=debug")
        federation.until(lambda: federation.clients_at("combiner-1"))
        stopped = federation.sandbox.processes["combiner-1"].popen
        stopped.send_signal(signal.SIGSTOP)
        federation.until(lambda: federation.clients_at("combiner-2") == {"client-1"})
        federation.until(lambda: "combiner lost" in log_of(federation, "reducer"))
        assert "ping timeout" in log_of(federation, "reducer")
        stopped.send_signal(signal.SIGCONT)
        federation.until(lambda: log_of(federation, "reducer").count("combiner is up") == 3)


class Mute:
    """Attaches, and says nothing more."""

    def __init__(self, link: ClientLink | Entrance, name: str) -> None:
        self.name = ClientId(name)
        self.stream = link.attach(self._hello())

    async def _hello(self) -> AsyncIterator[m.ClientMessage]:
        yield m.Hello(PROTOCOL_VERSION, self.name, self.name)
        await asyncio.Event().wait()

    async def until(self, kind: type) -> Any:
        async for message in self.stream:
            if isinstance(message, kind):
                return message
        raise AssertionError(f"the stream ended without {kind.__name__}")


async def test_a_silent_client_holds_no_validation_up(tmp_path: Path) -> None:
    async with Federation(tmp_path, combiner_limits=Limits(beat=0.05)) as federation:
        combiner = await federation.add_combiner("combiner-1")
        mute = Mute(federation._link("combiner-1", "combiner-1"), "mute")
        await mute.until(m.Welcome)
        seed = seed_file({"w": np.zeros(4)})
        spec = ValidationSpec(
            1, SessionId("s"), 1, digest_of(seed), len(seed), (mute.name,), "{}", 0, 3600.0, seed
        )
        story = asyncio.create_task(_all(combiner.run_validation(spec)))
        await mute.until(m.Task)
        async with asyncio.timeout(20):
            left = m.ClientFailed(mute.name, "left before it reported", left=True)
            assert await story == [left, m.ValidationSealed(0, (mute.name,))]
            assert [message async for message in mute.stream] == []  # and its stream is ended


async def _all(events: AsyncIterator[Any]) -> list[Any]:
    return [event async for event in events]


async def silence(monkeypatch: pytest.MonkeyPatch, steps: list[float]) -> float | None:
    """For how many beats of silence a mute client is given up, on a clock that goes in these steps."""
    now, beat, left = 0.0, 2.0, []
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    hooks = Hooks(lambda _: None, lambda *_: None, lambda _, why: left.append(why), lambda: [mute.name])
    entrance = Entrance(CombinerName("A"), Incarnation("A1"), Limits(beat=beat), Gauges(), hooks)
    mute = Mute(entrance, "mute")
    await mute.until(m.Welcome)
    entrance.ask(mute.name, m.Task(SessionId("s"), 1, m.TaskKind.TRAIN, digest_of(b""), 1, "{}", 0))
    for step in steps:
        now += step * beat
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    entrance.close()
    assert [type(message) async for message in mute.stream] == [m.Task]
    return float(SILENT.search(left[0])[1]) / beat if left[0] else None


@pytest.mark.parametrize(
    "steps",
    [[0.01] * 300, [0.74] * 9, [0.74, 0.74, 0.51, 0.74]],
    ids=["looks in time", "late looks", "the latest look that blames"],
)
async def test_silence_is_two_beats_never_three(monkeypatch: pytest.MonkeyPatch, steps: list[float]) -> None:
    said = await silence(monkeypatch, steps)
    assert said is not None
    assert 2 <= said < 3


async def test_a_combiner_that_did_not_listen_itself_blames_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await silence(monkeypatch, [0.76] * 99) is None
    assert await silence(monkeypatch, [5.0, *[0.1] * 19]) is None
    assert await silence(monkeypatch, [5.0, *[0.1] * 22]) == pytest.approx(2, abs=0.3)
