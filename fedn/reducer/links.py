"""The way out: the reducer's calls on one combiner, over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fedn.domain import messages as m
from fedn.domain.identity import Role
from fedn.domain.ids import CombinerName
from fedn.domain.round import RoundSpec, ValidationSpec
from fedn.identity.certificates import server_name
from fedn.identity.credentials import Wallet
from fedn.ports import Buffer
from fedn.wire import calls
from fedn.wire.calls import CONTROL, reader
from fedn.wire.channel import open_channel
from fedn.wire.chunks import unframe
from fedn.wire.pb import fedn_pb2 as pb

_COMBINER_EVENT = reader(pb.CombinerEvent, envelope=True)
_ROUND_EVENT = reader(pb.RoundEvent, envelope=True)
_VALIDATION_EVENT = reader(pb.ValidationEvent, envelope=True)
_RELEASE_ANSWER = reader(pb.ReleaseAnswer)
_ADMIT_ANSWER = reader(pb.AdmitAnswer)


class GrpcCombinerControl:
    """Implements ports.CombinerLink. Make it inside the event loop that uses it.

    With a ``wallet`` it shows what is in there now, and speaks with the combiner of that name alone.
    """

    def __init__(self, address: str, combiner: CombinerName, wallet: Wallet | None = None) -> None:
        if wallet is None:
            self._channel = open_channel(address)
        else:
            self._channel = open_channel(address, wallet.current, server_name(Role.COMBINER, combiner))

    def watch(self, request: m.WatchRequest) -> AsyncIterator[m.CombinerEvent]:
        return calls.stream(self._channel, f"/{CONTROL}/Watch", request, _COMBINER_EVENT)

    def run_round(self, spec: RoundSpec) -> AsyncIterator[m.RoundEvent]:
        return calls.stream(self._channel, f"/{CONTROL}/RunRound", spec, _ROUND_EVENT)

    def run_validation(self, spec: ValidationSpec) -> AsyncIterator[m.ValidationEvent]:
        return calls.stream(self._channel, f"/{CONTROL}/RunValidation", spec, _VALIDATION_EVENT)

    def fetch_part(self, request: m.FetchRequest) -> AsyncIterator[Buffer]:
        return calls.stream(self._channel, f"/{CONTROL}/Fetch", request, unframe)

    async def ack(self, command: m.AckRound) -> None:
        await calls.call(self._channel, f"/{CONTROL}/Ack", command)

    async def abort(self, command: m.AbortRound) -> None:
        await calls.call(self._channel, f"/{CONTROL}/Abort", command)

    async def release(self, command: m.ReleaseUpdate) -> m.ReleaseAnswer:
        answer: m.ReleaseAnswer = await calls.call(
            self._channel, f"/{CONTROL}/Release", command, _RELEASE_ANSWER
        )
        return answer

    async def admit(self, command: m.AdmitClient) -> m.AdmitAnswer:
        answer: m.AdmitAnswer = await calls.call(self._channel, f"/{CONTROL}/Admit", command, _ADMIT_ANSWER)
        return answer

    async def settle(self, command: m.SettleUpdate) -> None:
        await calls.call(self._channel, f"/{CONTROL}/Settle", command)

    async def drain(self, command: m.DrainRequest) -> None:
        await calls.call(self._channel, f"/{CONTROL}/Drain", command)

    async def close(self) -> None:
        await self._channel.close()
