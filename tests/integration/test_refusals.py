"""A hostile or broken client over real gRPC: refused by name, told why; the round goes on without it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedn.client.links import GrpcCombiner
from fedn.combiner.limits import Limits
from fedn.combiner.service import add_services
from fedn.combiner.staging import PartSum
from fedn.domain import messages as m
from fedn.domain.errors import Conflict, Incompatible, InvalidInput, NotFound
from fedn.domain.ids import PROTOCOL_VERSION, ClientId, Digest
from fedn.domain.model import layout_of
from fedn.domain.update import UpdateHeader
from fedn.helpers.files import seed_file
from fedn.testing.federation import Federation
from fedn.wire.channel import new_server

SEED = {"w": np.zeros(4), "b": np.ones((2, 3), dtype=np.float32)}


class Honest:
    """An ordinary client's app."""

    def train(self, model: Any, config: Any) -> Any:
        return {k: v + 1 for k, v in model.items()}, 10

    def validate(self, model: Any) -> Any:
        return {}


class RawClient:
    """Speaks the protocol by hand."""

    def __init__(self, link: GrpcCombiner, name: str) -> None:
        self.name = ClientId(name)
        self.link = link
        self.outbox: asyncio.Queue[m.ClientMessage] = asyncio.Queue()
        self.stream = link.attach(self._out())
        self.held: list[m.CombinerMessage] = []

    async def _out(self) -> AsyncIterator[m.ClientMessage]:
        while True:
            yield await self.outbox.get()

    def send(self, message: m.ClientMessage) -> None:
        self.outbox.put_nowait(message)

    async def hear(self, kind: type, seconds: float = 10.0) -> Any:
        async with asyncio.timeout(seconds):
            while not isinstance(message := await anext(self.stream), kind):
                self.held.append(message)
            return message

    async def attach(self) -> RawClient:
        self.send(m.Hello(PROTOCOL_VERSION, self.name, self.name))
        await self.hear(m.Welcome)
        return self

    def offer_of(self, task: m.Task, file: bytes, **changes: Any) -> UpdateHeader:
        digest = Digest(hashlib.sha256(file).hexdigest())
        layout = layout_of(memoryview(file)).digest
        header = UpdateHeader(task.session, task.round, self.name, task.model, 10, len(file), digest, layout)
        return replace(header, **changes)

    async def submit(self, granted: m.Granted, *pieces: bytes) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

        await self.link.submit(granted.grant, granted.offset, chunks())


@asynccontextmanager
async def served(tmp_path: Path, honest: int = 1, **limits: Any) -> AsyncIterator[tuple[Federation, Any]]:
    """A federation with honest clients whose one combiner also listens on loopback; a raw client joins."""
    async with Federation(tmp_path, combiner_limits=Limits(**{"client_grace": 0.3, **limits})) as federation:
        combiner = await federation.add_combiner("combiner-1")
        server = new_server()
        add_services(server, combiner)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        for number in range(honest):
            await federation.add_client(f"honest-{number + 1}", Honest())
        links: list[GrpcCombiner] = []

        async def join(name: str) -> RawClient:
            links.append(GrpcCombiner(f"127.0.0.1:{port}", combiner.name))
            return await RawClient(links[-1], name).attach()

        yield federation, join
        for link in links:
            await link.close()
        await server.stop(0)


async def started(federation: Federation, clients: int, **plan: Any) -> Any:
    await federation.story.until("network_changed", clients=clients)
    plan = {"rounds": 1, "min_clients": 1, "validate": False, "check": False, **plan}
    return await federation.start_session(SEED, **plan)


def changed(value: float) -> bytes:
    return seed_file({k: v + value for k, v in SEED.items()})


@pytest.mark.parametrize(
    ("spoil", "code", "reason"),
    [
        ({"base_model": "0" * 64}, "wrong_base_model", "round 1 starts from"),
        ({"layout": "0" * 64}, "wrong_layout", "differ from the base model's"),
        ({"size": 2**40}, "too_large", "the limit here is"),
        ({"examples": 0}, "bad_weight", "0 examples"),
    ],
)
async def test_a_bad_header_is_refused_at_once(tmp_path: Path, spoil: Any, code: str, reason: str) -> None:
    async with served(tmp_path) as (federation, join):
        raw = await join("raw")
        await started(federation, 2)
        task = await raw.hear(m.Task)
        raw.send(m.UpdateOffered(raw.offer_of(task, changed(5.0), **spoil)))
        refused = await raw.hear(m.UpdateRefused)
        assert refused.code == code
        assert reason in refused.reason
        committed = await federation.story.until("round_committed")
        assert (committed["contributors"], committed["refused"]) == (1, ["raw"])


def nan_update() -> bytes:
    return seed_file({"w": np.array([0.0, np.nan, 0, 0]), "b": SEED["b"]})


@pytest.mark.parametrize(
    ("sent", "code", "reason"),
    [
        (lambda good: bytes(len(good)), "digest_mismatch", "not the ones offered"),
        (lambda good: good[:-1] + bytes([good[-1] ^ 1]), "digest_mismatch", "not the ones offered"),
    ],
)
async def test_wrong_bytes_are_refused_before_they_are_folded(
    tmp_path: Path, sent: Any, code: str, reason: str
) -> None:
    async with served(tmp_path) as (federation, join):
        raw = await join("raw")
        info = await started(federation, 2)
        task = await raw.hear(m.Task)
        file = changed(5.0)
        raw.send(m.UpdateOffered(raw.offer_of(task, file)))
        await raw.submit(await raw.hear(m.Granted), sent(file))
        refused = await raw.hear(m.UpdateRefused)
        assert (refused.code, reason in refused.reason) == (code, True)
        await federation.story.until("session_finished")
        head = federation.state.session(info.session).head
        assert federation.tensors(head.model)["w"] == pytest.approx(np.ones(4))


@pytest.mark.parametrize(
    ("file", "code", "reason"),
    [
        (nan_update(), "not_finite", "tensor 'w' holds NaN"),
        (seed_file({"w": np.zeros(10)}), "wrong_layout", "tensor 'b' is missing"),
    ],
)
async def test_bytes_that_lie_about_their_layout_or_numbers_are_refused(
    tmp_path: Path, file: bytes, code: str, reason: str
) -> None:
    async with served(tmp_path) as (federation, join):
        raw = await join("raw")
        await started(federation, 2)
        task = await raw.hear(m.Task)
        layout = layout_of(memoryview(changed(0.0))).digest  # what the combiner expects to be told
        raw.send(m.UpdateOffered(raw.offer_of(task, file, layout=layout)))
        await raw.submit(await raw.hear(m.Granted), file)
        refused = await raw.hear(m.UpdateRefused)
        assert (refused.code, reason in refused.reason) == (code, True), refused
        assert (await federation.story.until("round_committed"))["refused"] == ["raw"]


async def test_the_same_identity_with_other_bytes_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path) as (federation, join):
        raw = await join("raw")
        await started(federation, 2)
        task = await raw.hear(m.Task)
        first, second = changed(5.0), changed(6.0)
        raw.send(m.UpdateOffered(raw.offer_of(task, first)))
        granted = await raw.hear(m.Granted)
        raw.send(m.UpdateOffered(raw.offer_of(task, first)))
        assert await raw.hear(m.Granted) == granted  # the same offer gets the same answer
        raw.send(m.UpdateOffered(raw.offer_of(task, second)))
        assert (await raw.hear(m.UpdateRefused)).code == "digest_conflict"
        await raw.submit(granted, first)
        assert (await raw.hear(m.Receipt)).digest == hashlib.sha256(first).hexdigest()
        assert (await federation.story.until("round_committed"))["contributors"] == 2


async def test_an_update_for_an_old_round_changes_nothing_and_is_told_so(tmp_path: Path) -> None:
    async with served(tmp_path) as (federation, join):
        info = await started(federation, 1, rounds=2)
        await federation.story.until("session_finished")
        before = federation.state.session(info.session).head
        raw = await join("raw")
        record = federation.state.record(info.session, 1).record
        task = m.Task(info.session, 1, m.TaskKind.TRAIN, record.base_model, 1, "{}", 0)
        raw.send(m.UpdateOffered(raw.offer_of(task, changed(9.0))))
        settled = await raw.hear(m.Settled)
        assert (settled.round, settled.counted) == (1, False)
        assert settled.reason == "stale round: round 1 was committed without this update"
        assert federation.state.session(info.session).head == before


async def test_an_upload_beyond_its_size_or_without_a_grant_is_an_error(tmp_path: Path) -> None:
    async with served(tmp_path) as (federation, join):
        raw = await join("raw")
        await started(federation, 2)
        task = await raw.hear(m.Task)
        file = changed(5.0)
        raw.send(m.UpdateOffered(raw.offer_of(task, file)))
        granted = await raw.hear(m.Granted)
        with pytest.raises(InvalidInput, match="announced"):
            await raw.submit(granted, file + b"more")
        with pytest.raises(NotFound, match="no such grant"):
            await raw.submit(replace(granted, grant="f" * 16), file)
        with pytest.raises(Conflict, match="staged"):
            await raw.submit(replace(granted, offset=7), file)
        await raw.submit(granted, file)
        assert (await raw.hear(m.Receipt)).client == "raw"


async def test_an_upload_goes_on_where_it_broke(tmp_path: Path) -> None:
    async with served(tmp_path) as (federation, join):
        raw = await join("raw")
        await started(federation, 2)
        task = await raw.hear(m.Task)
        file = changed(5.0)
        offer = m.UpdateOffered(raw.offer_of(task, file))
        raw.send(offer)
        await raw.submit(await raw.hear(m.Granted), file[:100])
        raw.send(offer)
        granted = await raw.hear(m.Granted)
        assert granted.offset == 100
        await raw.submit(granted, file[100:])
        assert (await raw.hear(m.Receipt)).client == "raw"
        assert (await federation.story.until("round_committed"))["contributors"] == 2


async def test_a_client_that_leaves_while_uploading_is_lost_by_name(tmp_path: Path) -> None:
    async with served(tmp_path) as (federation, join):
        raw = await join("raw")
        info = await started(federation, 2)
        task = await raw.hear(m.Task)
        file = changed(5.0)
        raw.send(m.UpdateOffered(raw.offer_of(task, file)))
        await raw.submit(await raw.hear(m.Granted), file[:100])
        await raw.link.close()
        committed = await federation.story.until("round_committed")
        assert (committed["contributors"], committed["lost"]) == (1, ["raw"])
        [absence] = federation.state.record(info.session, 1).record.lost
        assert absence.reason == "left and did not come back within 0.3 s"


async def test_an_incompatible_or_nameless_client_is_refused_clearly(tmp_path: Path) -> None:
    async with served(tmp_path, honest=0) as (_, join):
        good = await join("good")
        old = RawClient(good.link, "old")
        old.send(m.Hello(99, old.name, "old"))
        with pytest.raises(Incompatible, match="protocol 1, the client 99"):
            await old.hear(m.Welcome)
        bad = RawClient(good.link, "../../etc")
        bad.send(m.Hello(PROTOCOL_VERSION, bad.name, "bad"))
        with pytest.raises(InvalidInput, match="not a valid name"):
            await bad.hear(m.Welcome)
        rude = RawClient(good.link, "rude")
        rude.send(m.Beat())
        with pytest.raises(InvalidInput, match="first message is not Hello"):
            await rude.hear(m.Welcome)


async def test_nobody_can_offer_in_anothers_name(tmp_path: Path) -> None:
    async with served(tmp_path) as (federation, join):
        raw = await join("raw")
        await started(federation, 2)
        task = await raw.hear(m.Task)
        raw.send(m.UpdateOffered(raw.offer_of(task, changed(5.0), client=ClientId("honest-1"))))
        with pytest.raises((InvalidInput, StopAsyncIteration)):
            await raw.hear(m.Granted)
        committed = await federation.story.until("round_committed")
        assert committed["lost"] == ["raw"]


async def test_a_report_with_an_absurd_weight_ends_its_stream_and_hurts_nobody(tmp_path: Path) -> None:
    async with served(tmp_path) as (federation, join):
        raw = await join("raw")
        info = await started(federation, 2, rounds=1, min_clients=2, validate=True)
        task = await raw.hear(m.Task)
        raw.send(m.UpdateOffered(raw.offer_of(task, changed(1.0)), changed(1.0)))
        task = await raw.hear(m.Task)
        assert task.kind is m.TaskKind.VALIDATE
        raw.send(m.ModelValidated(info.session, 1, raw.name, task.model, 2**63, {"accuracy": 1e308}))
        await federation.story.until("session_finished")
        assert federation.state.session(info.session).state == "finished"


async def test_one_client_can_not_take_every_upload_slot(tmp_path: Path) -> None:
    async with served(tmp_path, uploads_in_flight=2) as (federation, join):
        raw, other = await join("raw"), await join("other")
        await started(federation, 3, min_clients=2)
        task, file = await raw.hear(m.Task), changed(5.0)
        raw.send(m.UpdateOffered(raw.offer_of(task, file)))
        granted = await raw.hear(m.Granted)

        async def nothing() -> AsyncIterator[bytes]:
            await asyncio.Event().wait()
            yield b""

        hanging = asyncio.create_task(raw.link.submit(granted.grant, 0, nothing()))
        await asyncio.sleep(0.1)
        with pytest.raises(Conflict, match="another stream"):
            await raw.link.submit(granted.grant, 0, nothing())
        task = await other.hear(m.Task)
        other.send(m.UpdateOffered(other.offer_of(task, file)))
        await other.submit(await other.hear(m.Granted), file)
        assert (await other.hear(m.Receipt)).client == "other"
        hanging.cancel()
        await asyncio.gather(hanging, return_exceptions=True)


async def test_a_fault_while_folding_drops_the_part_and_nobody_trains_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold, failed = PartSum.fold, []

    def once(self: PartSum, upload: Any) -> None:
        if not failed:
            failed.append(upload.header.client)
            raise MemoryError("no room")
        fold(self, upload)

    monkeypatch.setattr(PartSum, "fold", once)
    async with served(tmp_path, honest=3) as (federation, _):
        info = await started(federation, 3, min_clients=3)
        await federation.story.until("session_finished")
        assert len(federation.state.record(info.session, 1).record.contributors) == 3
        head = federation.state.session(info.session).head
        assert federation.tensors(head.model)["w"] == pytest.approx(np.ones(4))
    assert failed
