"""What the HTTP side asks of the reducer; `fedn.reducer.service.ReducerService` is the real one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from fedn.domain.ids import ClientId, CombinerName, SessionId
from fedn.domain.messages import Assignment, Registration
from fedn.domain.plan import Plan
from fedn.ports import Buffer, ModelInfo, ModelStore, SessionInfo, StateStore
from fedn.reducer.events import EventHub

if TYPE_CHECKING:
    from fedn.reducer.inquiries import Inquiry, Question
    from fedn.reducer.network import NetworkView


class Front(Protocol):
    """Called from HTTP threads; raises errors of `fedn.domain.errors`."""

    @property
    def state(self) -> StateStore: ...

    @property
    def models(self) -> ModelStore: ...

    @property
    def hub(self) -> EventHub: ...

    def network(self) -> NetworkView: ...

    def ready(self) -> str:
        """'' when ready, else the reason."""

    def register(self, registration: Registration) -> None: ...

    def drain(self, combiner: CombinerName) -> None: ...

    def undrain(self, combiner: CombinerName) -> None: ...

    def assign(self, client: ClientId, prefer: str, avoid: str) -> Assignment: ...

    def seed_model(self, chunks: Iterable[Buffer], name: str, size: int) -> ModelInfo: ...

    def start_session(self, name: str, model: str, plan: Plan) -> SessionInfo: ...

    def stop_session(self, session: SessionId) -> SessionInfo: ...

    def pause_session(self, session: SessionId) -> SessionInfo: ...

    def resume_session(self, session: SessionId) -> SessionInfo: ...

    def ask_clients(self, session: SessionId, question: Question) -> Inquiry: ...

    def inquiries(self, session: SessionId) -> Sequence[Inquiry]:
        """Newest first."""

    def inquiry(self, session: SessionId, inquiry: str) -> Inquiry: ...

    def round_progress(self, session: SessionId) -> Mapping[str, Any]: ...

    def unfit(self, session: SessionId) -> Mapping[ClientId, str] | None:
        """Who could not take part, and why; None where that is not known any more."""

    def verify_trail(self, session: SessionId) -> Any: ...
