"""What one tier asks of another, over a network or in one process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol, TypeAlias

from fedn.domain import messages as m
from fedn.domain.ids import ClientId, CombinerName
from fedn.domain.round import RoundSpec, ValidationSpec
from fedn.ports.buffers import Buffer


class CombinerLink(Protocol):
    """What the reducer asks of a combiner. Streams raise LinkBroken when the combiner is out of reach."""

    def watch(self, request: m.WatchRequest) -> AsyncIterator[m.CombinerEvent]: ...

    def run_round(self, spec: RoundSpec) -> AsyncIterator[m.RoundEvent]: ...

    def run_validation(self, spec: ValidationSpec) -> AsyncIterator[m.ValidationEvent]: ...

    def fetch_part(self, request: m.FetchRequest) -> AsyncIterator[Buffer]: ...

    async def ack(self, command: m.AckRound) -> None: ...

    async def abort(self, command: m.AbortRound) -> None: ...

    async def release(self, command: m.ReleaseUpdate) -> m.ReleaseAnswer: ...

    async def admit(self, command: m.AdmitClient) -> m.AdmitAnswer: ...

    async def settle(self, command: m.SettleUpdate) -> None: ...

    async def drain(self, command: m.DrainRequest) -> None: ...

    async def close(self) -> None: ...


class ClientLink(Protocol):
    """What a client asks of its combiner."""

    def attach(self, messages: AsyncIterator[m.ClientMessage]) -> AsyncIterator[m.CombinerMessage]: ...

    def fetch_model(self, request: m.FetchRequest) -> AsyncIterator[Buffer]: ...

    async def submit(self, grant: str, offset: int, chunks: AsyncIterator[Buffer]) -> None: ...

    async def close(self) -> None: ...


class ReducerLink(Protocol):
    """What combiners and clients ask of the reducer."""

    async def register(self, registration: m.Registration) -> Sequence[str]:
        """Announce a combiner; answers with who is revoked, as role:member.

        Raises Incompatible, LinkBroken, Revoked (this combiner itself).
        """

    async def assign(self, client: ClientId, prefer: str, avoid: str) -> m.Assignment:
        """Which combiner to attach to. Raises Unavailable while there is none."""

    def fetch_model(self, request: m.FetchRequest) -> AsyncIterator[Buffer]: ...

    async def close(self) -> None: ...


Dial: TypeAlias = Callable[[str, CombinerName], CombinerLink]
"""Open a link to a combiner by its address; with certificates, only to the one of that name."""
