"""The way in: puts a `Combiner` on gRPC. Only translates; decides nothing.

Who calls has been seen to by then (`fedn.wire.guard`); here the combiner is told who it is.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2_grpc

from fedn.combiner.driver import Combiner
from fedn.domain import messages as m
from fedn.domain.errors import FednError, InvalidInput
from fedn.domain.model import INLINE_BYTES
from fedn.ports import Buffer
from fedn.wire import calls
from fedn.wire.calls import (
    COMBINER,
    CONTROL,
    Context,
    Read,
    reader,
    serve_duplex,
    serve_stream,
    serve_unary,
    writer,
)
from fedn.wire.chunks import frame
from fedn.wire.guard import caller
from fedn.wire.pb import fedn_pb2 as pb

DONE = pb.Done().SerializeToString()
MOST_SAID = 4 * INLINE_BYTES
"""Bytes of a client's message: a small update that rides along, and its metrics."""
MOST_ASKED = 1024
"""Bytes of a request for a blob."""


def add_services(server: grpc.aio.Server, combiner: Combiner) -> health.aio.HealthServicer:
    """All that a combiner answers: both services of ``proto/fedn.proto``, and gRPC's health checks."""
    checks = _Health()
    server.add_generic_rpc_handlers(_handlers(combiner))
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    return checks


class _Health(health.aio.HealthServicer):  # type: ignore[misc]
    """gRPC's own, in which nobody has written List."""

    async def List(self, request: Any, context: Context) -> None:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "ask for Check; there is one service to ask for")


def _handlers(combiner: Combiner) -> tuple[grpc.GenericRpcHandler, ...]:
    fetch = _at_most(MOST_ASKED, reader(pb.FetchRequest))
    said = _at_most(MOST_SAID, reader(pb.ClientMessage, envelope=True))

    def attach(messages: AsyncIterator[m.ClientMessage]) -> AsyncIterator[m.CombinerMessage]:
        return combiner.attach(messages, caller.get())

    def fetch_model(request: m.FetchRequest) -> AsyncIterator[Buffer]:
        return combiner.fetch_model(request, caller.get())

    control = {
        "Watch": serve_stream(reader(pb.WatchRequest), writer(pb.CombinerEvent), combiner.watch),
        "RunRound": serve_stream(reader(pb.RoundSpec), writer(pb.RoundEvent), combiner.run_round),
        "RunValidation": serve_stream(
            reader(pb.ValidationSpec), writer(pb.ValidationEvent), combiner.run_validation
        ),
        "Fetch": serve_stream(fetch, frame, combiner.fetch_part),
        "Ack": serve_unary(reader(pb.AckRound), _done, combiner.ack),
        "Abort": serve_unary(reader(pb.AbortRound), _done, combiner.abort),
        "Release": serve_unary(reader(pb.ReleaseUpdate), writer(), combiner.release),
        "Admit": serve_unary(reader(pb.AdmitClient), writer(), combiner.admit),
        "Settle": serve_unary(reader(pb.SettleUpdate), _done, combiner.settle),
        "Drain": serve_unary(reader(pb.DrainRequest), _done, combiner.drain),
    }
    data = {
        "Attach": serve_duplex(said, writer(pb.CombinerMessage), attach),
        "Fetch": serve_stream(fetch, frame, fetch_model),
        "Submit": grpc.stream_unary_rpc_method_handler(_submit(combiner)),
    }
    return (
        grpc.method_handlers_generic_handler(CONTROL, control),
        grpc.method_handlers_generic_handler(COMBINER, data),
    )


def _done(_: object) -> bytes:
    return DONE


def _at_most(size: int, read: Read) -> Read:
    """``read``, for a message of at most ``size`` bytes."""

    def bounded(raw: bytes) -> Any:
        if len(raw) > size:
            raise InvalidInput("message", f"has {len(raw)} bytes; the most is {size}", "send less at once")
        return read(raw)

    return bounded


def _submit(combiner: Combiner) -> Callable[[AsyncIterable[bytes], Context], Awaitable[bytes]]:
    async def handle(raws: AsyncIterable[bytes], context: Context) -> bytes:
        metadata: dict[str, Any] = dict(context.invocation_metadata() or ())
        try:
            offset = str(metadata.get("fedn-offset", ""))
            if not offset.isdecimal() or len(offset) > 18:
                raise InvalidInput("fedn-offset", "is missing or no number", "send it as metadata of Submit")
            grant = str(metadata.get("fedn-grant", ""))
            await combiner.submit(grant, int(offset), calls.unframed(raws), caller.get())
        except FednError as error:
            await calls.refuse(context, error)
        return DONE

    return handle
