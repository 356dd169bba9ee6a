"""A reducer without a control loop: real memory stores, real checks, rounds committed by the test."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from safetensors.numpy import save

from fedn.domain.errors import NotFound
from fedn.domain.ids import ClientId, CombinerName, Digest, Incarnation, SessionId, check_digest, digest_of
from fedn.domain.messages import Assignment, ClientInfo, Gauge, Registration
from fedn.domain.model import parse_layout
from fedn.domain.plan import Plan
from fedn.domain.round import GENESIS_PARENT, MergedPart, RoundRecord, head_of, store_record
from fedn.domain.update import Contributor
from fedn.ports import MetricRow, ModelInfo, Observed, SessionInfo
from fedn.reducer.events import EventHub
from fedn.reducer.inquiries import Inquiry, Question, word
from fedn.reducer.network import CombinerView, NetworkView, check_drain, choose_combiner
from fedn.stores import open_models, open_state
from fedn.stores.trail import TrailReport, verify_trail

CLIENTS = (ClientId("client-a"), ClientId("client-b"))


def model_file(value: float = 0.0, size: int = 4) -> bytes:
    """A small safetensors file."""
    return save({"w": np.full(size, value, np.float32)})


class SmallService:
    """What `fedn.reducer.front.Front` asks for."""

    def __init__(self) -> None:
        self.state = open_state("memory://")
        self.models = open_models("memory://")
        self.hub = EventHub(streams=3)
        self.term = self.state.take_term()
        self.reason = ""
        self.combiners: dict[str, Registration] = {}
        self.drained: dict[str, float] = {}
        self.progress: Mapping[str, Any] = {}
        self.unfit_clients: Mapping[ClientId, str] | None = None
        self.gauges: tuple[Gauge, ...] = ()
        self.asked: list[Inquiry] = []
        self.lock = threading.Lock()

    def network(self) -> NetworkView:
        clients = tuple(ClientInfo(c, f"name of {c}") for c in CLIENTS)
        return NetworkView(
            self.term,
            tuple(
                CombinerView(
                    r.combiner,
                    r.address,
                    r.incarnation,
                    True,
                    clients if n == 0 else (),
                    self.gauges,
                    drained_at=self.drained.get(r.combiner, 0.0),
                )
                for n, r in enumerate(self.combiners.values())
            ),
        )

    def ready(self) -> str:
        return self.reason

    def register(self, registration: Registration) -> None:
        self.combiners[registration.combiner] = registration
        self.hub.observe(Observed("combiner_registered", {"combiner": registration.combiner}))

    def assign(self, client: ClientId, prefer: str, avoid: str) -> Assignment:
        chosen = choose_combiner(self.network(), {}, client, prefer, avoid)
        return Assignment(chosen.combiner, chosen.address)

    def seed_model(self, chunks: Iterable[Any], name: str, size: int) -> ModelInfo:
        data = b"".join(chunks)
        parse_layout(data, len(data))
        digest, size = self.models.put([data])
        info = ModelInfo(digest, size, name, "seed", time.time())
        self.state.add_model(info)
        return info

    def start_session(self, name: str, model: str, plan: Plan) -> SessionInfo:
        seeds = [m.digest for m in self.state.models() if m.origin == "seed"]
        if not model and not seeds:
            raise NotFound("there is no seed model yet; seed one with `fedn model seed FILE`")
        digest = check_digest("model", model) if model else seeds[0]
        session = SessionId(f"session-{len(self.state.sessions()) + 1}")
        record = RoundRecord(
            session, 0, GENESIS_PARENT, digest, digest, self.models.size(digest),
            plan.as_dict(), plan.digest, self.term, 1.5,
        )  # fmt: skip
        genesis = store_record(record)
        info = SessionInfo(session, name, plan, "running", "", 1.5, head_of(genesis))
        self.state.add_session(info, genesis)
        self.hub.observe(Observed("session_started", {"session": session}))
        return info

    def commit(self, session: SessionId, accuracy: float) -> None:
        """One round: both clients contribute, and validate with ``accuracy`` ± 0.1, weighted 1 to 3."""
        info = self.state.session(session)
        base, number = info.head, info.head.round + 1
        digest, size = self.models.put([model_file(number)])
        folded = tuple(Contributor(c, 10 * (n + 1), digest) for n, c in enumerate(CLIENTS))
        part = MergedPart(CombinerName("c1"), Incarnation("i1"), 1, digest_of(b""), folded)
        record = RoundRecord(
            session, number, base.record, base.model, digest, size,
            info.plan.as_dict(), info.plan.digest, self.term, 2.5, parts=(part,),
        )  # fmt: skip
        self.state.commit_round(store_record(record), self.term)
        self.hub.observe(Observed("round_committed", {"session": session, "round": number}))
        rows = [(CLIENTS[0], 1, accuracy - 0.3), (CLIENTS[1], 3, accuracy + 0.1)]
        measured = (
            MetricRow(
                session, number, "validate", client, examples, {"accuracy": value, "loss": float("nan")}
            )
            for client, examples, value in rows
        )
        self.state.add_metrics(measured, self.term)
        self.hub.observe(Observed("model_validated", {"session": session, "round": number}))

    def end(self, session: SessionId, state: str, reason: str) -> SessionInfo:
        self.state.set_session_state(session, state, reason, self.term)
        self.hub.observe(Observed(f"session_{state}", {"session": session}))
        return self.state.session(session)

    def stop_session(self, session: SessionId) -> SessionInfo:
        return self.end(session, "cancelled", "stopped by a person")

    def drain(self, combiner: CombinerName) -> None:
        check_drain(self.network(), combiner)
        self.drained[combiner] = 1.0

    def undrain(self, combiner: CombinerName) -> None:
        self.drained.pop(combiner, None)

    def pause_session(self, session: SessionId) -> SessionInfo:
        return self.end(session, "paused", "paused by a person")

    def resume_session(self, session: SessionId) -> SessionInfo:
        return self.end(session, "running", "")

    def ask_clients(self, session: SessionId, question: Question) -> Inquiry:
        """Asks both clients of the newest model: the first answers, the other fails."""
        head = self.state.session(session).head
        kind, model = word(question.kind), Digest(question.model) if question.model else head.model
        row = MetricRow(session, head.round, str(question.kind), CLIENTS[0], 5, {"accuracy": 0.25})
        name = f"i-{len(self.asked) + 1}"
        made = Inquiry(
            name, session, kind, head.round, model, 3.5, True, CLIENTS, (row,), {CLIENTS[1]: "boom"}
        )
        self.asked.append(made)
        return made

    def inquiries(self, session: SessionId) -> list[Inquiry]:
        return [replace(made, running=False) for made in self.asked[::-1] if made.session == session]

    def inquiry(self, session: SessionId, inquiry: str) -> Inquiry:
        for made in self.inquiries(session):
            if made.inquiry == inquiry:
                return made
        raise NotFound(f"there is no inquiry {inquiry}")

    def round_progress(self, session: SessionId) -> Mapping[str, Any]:
        if not self.progress:
            raise NotFound(f"session {session} is not running")
        return self.progress

    def unfit(self, session: SessionId) -> Mapping[ClientId, str] | None:
        return self.unfit_clients

    def verify_trail(self, session: SessionId) -> TrailReport:
        return verify_trail(self.state, self.models, session)


def seeded(service: SmallService, **plan: Any) -> SessionInfo:
    """A session from a fresh seed model."""
    seed = service.seed_model([model_file()], "zeros", 0)
    return service.start_session("digits", seed.digest, Plan(**plan))


__all__ = ["CLIENTS", "Digest", "SmallService", "model_file", "seeded"]
