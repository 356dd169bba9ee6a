"""A real combiner behind a real socket: spoilt messages at every method leave it as it was.

A call ends well or with one of our errors; one that is to stay open is left after its first answer. No
handler raises anything else, nothing is left held, and afterwards an honest round goes as ever.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import grpc
import identities
import numpy as np
import pytest
from grpc_health.v1 import health_pb2
from hostile import RUNS, SEED, resident, spoilt

from fedn.combiner.driver import Combiner
from fedn.combiner.limits import Limits
from fedn.combiner.service import add_services
from fedn.domain import messages as m
from fedn.domain.errors import error_from
from fedn.domain.identity import Role
from fedn.domain.ids import PROTOCOL_VERSION, ClientId, Digest, SessionId, digest_of
from fedn.domain.model import layout_of
from fedn.domain.round import RoundSpec, ValidationSpec
from fedn.domain.update import UpdateHeader
from fedn.helpers.files import seed_file
from fedn.identity.authority import Authority
from fedn.identity.certificates import server_name
from fedn.identity.credentials import Wallet
from fedn.testing.federation import Federation
from fedn.wire import codec
from fedn.wire.calls import COMBINER, CONTROL
from fedn.wire.channel import new_server, open_channel
from fedn.wire.chunks import frame
from fedn.wire.pb import fedn_pb2 as pb
from fedn.wire.security import server_credentials
from fedn.wire.status import CODE_KEY, WRITE_FAILED

AT_ONCE = 32
STAYS = 0.05
"""Seconds after which a call that waits for something is left."""
SEED_MODEL = {"w": np.zeros(4), "b": np.ones((2, 3), dtype=np.float32)}
FILE = seed_file(SEED_MODEL)
EVIL = ClientId("evil")
HEALTH = "grpc.health.v1.Health"

FROM_GRPC = {"UNIMPLEMENTED", "NOT_FOUND"}
"""What is no method, and no service to ask about."""
HARMLESS = ("Failed sending error status from server", "call failed: the bytes have digest")
"""What gRPC logs when a caller has left already; a model that is not what the reducer said."""
END = "left open"


@dataclass
class Stage:
    """A combiner with the reducer behind it, and a channel to its socket."""

    federation: Federation
    combiner: Combiner
    channel: grpc.aio.Channel
    gate: threading.Event = field(default_factory=threading.Event)
    ends: Counter[str] = field(default_factory=Counter)

    # --- calls: each returns how it ended ----------------------------------------------------------

    async def unary(self, method: str, raw: bytes) -> str:
        ask: Any = self.channel.unary_unary(method)
        return await self._ended(ask(raw, timeout=30))

    async def stream(self, method: str, raw: bytes) -> str:
        ask: Any = self.channel.unary_stream(method)
        return await self._read(ask(raw, timeout=30))

    async def duplex(self, method: str, raws: Iterable[bytes]) -> str:
        ask: Any = self.channel.stream_stream(method)
        return await self._read(ask(each(raws), timeout=30))

    async def upload(self, method: str, raws: Iterable[bytes], metadata: Any) -> str:
        ask: Any = self.channel.stream_unary(method)
        return await self._ended(ask(each(raws), metadata=metadata, timeout=30))

    async def stay(self, until: asyncio.Event) -> None:
        """Be attached, and say nothing more."""

        async def hello() -> AsyncIterator[bytes]:
            yield said(m.Hello(PROTOCOL_VERSION, EVIL, "evil"))[0]
            await until.wait()

        attach: Any = self.channel.stream_stream(f"/{COMBINER}/Attach")
        async for _ in attach(hello()):
            pass

    async def is_empty(self) -> None:
        """Nothing of what was said is held any more."""
        async with asyncio.timeout(20):
            while list(self.combiner._parts) or [i for i in self.combiner._clients if i.client != "honest"]:
                await asyncio.sleep(0.01)

    async def _ended(self, call: Any) -> str:
        try:
            await call
        except grpc.aio.AioRpcError as error:
            return self._judged(error)
        return "OK"

    async def _read(self, call: Any) -> str:
        try:
            async with asyncio.timeout(STAYS):
                async for _ in call:
                    pass
        except TimeoutError:
            call.cancel()
            return END
        except grpc.aio.AioRpcError as error:
            return self._judged(error)
        return "OK"

    def _judged(self, error: grpc.aio.AioRpcError) -> str:
        """The code of our own error; anything else is a fault, but for what gRPC itself says."""
        code, details = error.code(), error.details() or ""
        ours = str(dict(error.trailing_metadata() or ()).get(CODE_KEY, ""))
        if not ours and (code.name in FROM_GRPC or details == WRITE_FAILED):
            return code.name
        known = error_from(ours, "")
        assert known is not None, f"no error of ours: {code} {details}"
        assert ours not in ("internal", "invalid_transition"), f"a fault: {ours} {details}"
        return ours


async def each(raws: Iterable[bytes]) -> AsyncIterator[bytes]:
    for raw in raws:
        yield raw


class Gated:
    """An honest client's app, which trains when the gate is open."""

    def __init__(self, gate: threading.Event) -> None:
        self._gate = gate

    def train(self, model: Any, config: Any) -> Any:
        assert self._gate.wait(600)
        return {k: v + 1 for k, v in model.items()}, 10

    def validate(self, model: Any) -> Any:
        return {}


@asynccontextmanager
async def stage(directory: Path, secured: bool = False) -> AsyncIterator[Stage]:
    """``secured``: by TLS, and what comes over the channel comes from the client EVIL."""
    limits = Limits(client_grace=0.3, upload_idle=0.5, hello_within=0.5, max_update_bytes=2**20,
                    messages_per_second=1e6, messages_burst=10**6)  # fmt: skip
    async with Federation(directory, combiner_limits=limits) as federation:
        combiner = await federation.add_combiner("combiner-1")
        server = new_server()
        add_services(server, combiner)
        if secured:
            authority = Authority.create("fuzz", time.time())
            wallet = Wallet(identities.member(authority, Role.COMBINER, combiner.name))
            port = server.add_secure_port("127.0.0.1:0", server_credentials(wallet))
            shown = identities.member(authority, Role.CLIENT, EVIL)
            channel = open_channel(f"127.0.0.1:{port}", shown, server_name(Role.COMBINER, combiner.name))
        else:
            port = server.add_insecure_port("127.0.0.1:0")
            channel = open_channel(f"127.0.0.1:{port}")
        await server.start()
        made = Stage(federation, combiner, channel)
        try:
            yield made
        finally:
            made.gate.set()
            await channel.close()
            await server.stop(0)


@pytest.fixture
def faults(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What was logged as an error, by whomever: gRPC logs there what a handler raised."""
    caplog.set_level(logging.ERROR)

    def found() -> list[str]:
        messages = (record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR)
        return [message for message in messages if not any(known in message for known in HARMLESS)]

    return found


def encoded(*values: Any) -> list[bytes]:
    return [codec.encode(value).SerializeToString() for value in values]


def said(*values: m.ClientMessage) -> list[bytes]:
    return [codec.wrap(pb.ClientMessage, value).SerializeToString() for value in values]


async def tried(stage: Stage, calls: Iterable[Callable[[], Any]], tally: Callable[[int], None]) -> None:
    """Make the calls, some at once, and look every now and then whether memory grows."""
    sizes: list[int] = []
    calls = iter(calls)
    while batch := list(islice(calls, AT_ONCE)):
        async with asyncio.timeout(60):
            stage.ends.update(await asyncio.gather(*(call() for call in batch)))
        tally(len(batch))
        sizes.append(resident())
    half = len(sizes) // 2
    grown = max(sizes[half:]) - max(sizes[:half])
    assert grown < 32 * 2**20, f"{grown / 2**20:.1f} MiB more in the second half"


# --- what a client may ask for ---------------------------------------------------------------------


def hostile_client(random: Random, stage: Stage, session: SessionId) -> Callable[[], Any]:
    """One hostile conversation: an Attach, a Fetch or a Submit."""
    model, layout = digest_of(FILE), layout_of(FILE).digest
    header = UpdateHeader(session, 1, EVIL, model, 10, len(FILE), model, layout, {"loss": 0.5})
    bad = spoilt(random, [FILE])  # offered as what it is
    honest = replace(header, size=len(bad), digest=digest_of(bad))
    hello = said(m.Hello(PROTOCOL_VERSION, EVIL, "evil"))
    says = said(
        m.Beat(), m.UpdateOffered(header, FILE), m.UpdateOffered(header), m.UpdateOffered(honest, bad),
        m.UpdateOffered(replace(header, size=2**40)), m.UpdateOffered(replace(header, round=7)),
        m.TaskFailed(session, 1, m.TaskKind.TRAIN, "boom"), m.TaskFailed(session, 1, m.TaskKind.VALIDATE, ""),
        m.ModelValidated(session, 1, EVIL, model, 3, {"loss": float("nan")}),
        m.Hello(PROTOCOL_VERSION, ClientId("other"), "x" * 500), m.Hello(9, EVIL, ""),
    )  # fmt: skip
    kind = random.randrange(10)
    if kind == 0:
        asked = spoilt(random, encoded(m.FetchRequest(model, 3), m.FetchRequest(Digest("../x"), 2**63)))
        return lambda: stage.stream(f"/{COMBINER}/Fetch", asked)
    if kind == 1:
        chunks = [spoilt(random, [frame(FILE), frame(b"")]) for _ in range(random.randrange(4))]
        grants = [upload.grant for run in stage.combiner._parts for upload in run.sum.uploads.values()]
        grant = random.choice([*grants, "", "0" * 16, "../x", "x" * 2000])
        offset = random.choice(["0", "1", "-1", "", "9" * 18, "9" * 19, "x", "1e3", str(len(FILE))])
        metadata = (("fedn-grant", grant), ("fedn-offset", offset))[: random.choice((2, 2, 2, 1, 0))]
        return lambda: stage.upload(f"/{COMBINER}/Submit", chunks, metadata)
    if kind == 2:
        asked = spoilt(random, [health_pb2.HealthCheckRequest(service="x").SerializeToString(), b""])
        name = random.choice(("Check", "List", "Watch", "Nothing"))
        return lambda: stage.stream(f"/{HEALTH}/{name}", asked)
    first = hello if random.random() < 0.8 else [spoilt(random, hello)]
    others = [spoilt(random, says) if random.random() < 0.6 else random.choice(says)
              for _ in range(random.randrange(5))]  # fmt: skip
    noise = [random.randbytes(random.randrange(60))] if random.random() < 0.1 else []
    return lambda: stage.duplex(f"/{COMBINER}/Attach", [*first, *others, *noise])


@pytest.mark.parametrize("secured", [False, True], ids=["plain", "tls"])
async def test_a_hostile_client(
    tmp_path: Path, faults: Callable[[], list[str]], tally: Callable[[int], None], secured: bool
) -> None:
    """All while a round is open, in which it is listed. The honest client's update counts."""
    async with stage(tmp_path, secured) as it:
        await it.federation.add_client("honest", Gated(it.gate))
        begun = asyncio.Event()
        evil = asyncio.create_task(it.stay(begun))
        await it.federation.story.until("network_changed", clients=2)
        plan = {"rounds": 1, "min_clients": 1, "validate": False, "round_deadline": 600.0}
        session = (await it.federation.start_session(SEED_MODEL, **plan)).session
        await it.federation.story.until("round_opened")
        begun.set()
        await evil
        random = Random(SEED)
        await tried(it, (hostile_client(random, it, session) for _ in range(RUNS)), tally)
        assert it.ends.keys() >= {"OK", "invalid_input", "not_found"}, it.ends
        assert ("forbidden" in it.ends) is secured, it.ends
        it.gate.set()
        await it.federation.story.until("session_finished")
        record = it.federation.state.record(session, 1).record
        assert "honest" in {c.client for c in record.contributors}
        await it.is_empty()
    assert not faults()


# --- what a reducer may ask for --------------------------------------------------------------------


def commands(it: Stage, session: SessionId, term: int) -> dict[str, list[bytes]]:
    """Well-formed calls by method, about this combiner as it is."""
    model, layout, s = digest_of(FILE), layout_of(FILE).digest, session
    spec = RoundSpec(term, s, 1, 1, model, len(FILE), layout, (EVIL, ClientId("b")), "{}", 1, 0.2, "mean",
                     it.combiner.incarnation, FILE)  # fmt: skip
    specs = [
        spec,
        replace(spec, part=2, inline=b""),
        replace(spec, aggregator="none"),
        replace(spec, round=2),
        replace(spec, model_size=2**40, inline=b"", model=digest_of(b"")),
        *(replace(spec, deadline=seconds, part=n) for n, seconds in enumerate(ODD_SECONDS, 3)),
    ]
    look = ValidationSpec(term, s, 1, model, len(FILE), (EVIL,), "{}", 1, 0.2, FILE)
    looks = [look, *(replace(look, deadline=seconds, round=n) for n, seconds in enumerate(ODD_SECONDS, 2))]
    return {
        "Watch": encoded(m.WatchRequest(PROTOCOL_VERSION, term), m.WatchRequest(9, term)),
        "RunRound": encoded(*specs),
        "RunValidation": encoded(*looks),
        "Fetch": encoded(m.FetchRequest(model, 0), m.FetchRequest(Digest("../x"), 2**63)),
        "Ack": encoded(m.AckRound(term, s, 1, (1, 2, 2**63))),
        "Abort": encoded(m.AbortRound(term, s, 1, 1, "no", True), m.AbortRound(term, s, 2, 1, "", False)),
        "Release": encoded(m.ReleaseUpdate(term, s, 1, EVIL)),
        "Admit": encoded(m.AdmitClient(term, s, 1, 1, EVIL), m.AdmitClient(term, s, 1, 1, ClientId("new"))),
        "Settle": encoded(m.SettleUpdate(term, EVIL, s, 1, True, "x" * 2000)),
    }


ODD_SECONDS = (0.0, -1.0, 1e308, float("inf"), float("-inf"), float("nan"))
STREAMS = ("Watch", "RunRound", "RunValidation", "Fetch")


def hostile_reducer(random: Random, it: Stage) -> Callable[[], Any]:
    """One hostile command, mostly of the newest term: else most would be refused for that alone."""
    known = commands(it, SessionId(f"s{random.randrange(4)}"), it.combiner._term)
    name = random.choice(list(known))
    raw = random.choice(known[name]) if random.random() < 0.3 else spoilt(random, known[name])
    call = it.stream if name in STREAMS else it.unary
    return lambda: call(f"/{CONTROL}/{name}", raw)


async def test_a_hostile_reducer(
    tmp_path: Path, faults: Callable[[], list[str]], tally: Callable[[int], None]
) -> None:
    """It can open and drop what it likes, and take the highest term; what it can't is break the combiner."""
    async with stage(tmp_path) as it:
        await it.federation.stop_reducer()
        random = Random(SEED)
        await tried(it, (hostile_reducer(random, it) for _ in range(RUNS)), tally)
        assert it.ends.keys() >= {"OK", END, "invalid_input"}, it.ends
        assert it.combiner._parts._count() <= it.combiner.limits.max_parts
        last = encoded(m.WatchRequest(PROTOCOL_VERSION, 2**64 - 1))[0]
        watch: Any = it.channel.unary_stream(f"/{CONTROL}/Watch")
        call = watch(last, timeout=30)
        first = pb.CombinerEvent.FromString(await call.read())
        assert first.snapshot.combiner == "combiner-1"
        call.cancel()
        rung = asyncio.Event()
        asyncio.get_running_loop().call_later(0.01, rung.set)
        await asyncio.wait_for(rung.wait(), 20)  # timers are still told
    assert not faults()
