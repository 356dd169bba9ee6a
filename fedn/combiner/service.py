"""The way in: puts a `Combiner` on gRPC. Only translates; decides nothing."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Any

import grpc

from fedn.combiner.driver import Combiner
from fedn.domain.errors import FednError, InvalidInput
from fedn.wire import calls
from fedn.wire.calls import (
    COMBINER,
    CONTROL,
    Context,
    reader,
    serve_duplex,
    serve_stream,
    serve_unary,
    writer,
)
from fedn.wire.chunks import frame
from fedn.wire.pb import fedn_pb2 as pb

DONE = pb.Done().SerializeToString()


def handlers(combiner: Combiner) -> tuple[grpc.GenericRpcHandler, ...]:
    """Both services of ``proto/fedn.proto``, for ``server.add_generic_rpc_handlers``."""
    fetch = reader(pb.FetchRequest)
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
        "Attach": serve_duplex(
            reader(pb.ClientMessage, envelope=True), writer(pb.CombinerMessage), combiner.attach
        ),
        "Fetch": serve_stream(fetch, frame, combiner.fetch_model),
        "Submit": grpc.stream_unary_rpc_method_handler(_submit(combiner)),
    }
    return (
        grpc.method_handlers_generic_handler(CONTROL, control),
        grpc.method_handlers_generic_handler(COMBINER, data),
    )


def _done(_: object) -> bytes:
    return DONE


def _submit(combiner: Combiner) -> Callable[[AsyncIterable[bytes], Context], Awaitable[bytes]]:
    async def handle(raws: AsyncIterable[bytes], context: Context) -> bytes:
        metadata: dict[str, Any] = dict(context.invocation_metadata() or ())
        try:
            offset = str(metadata.get("fedn-offset", ""))
            if not offset.isdecimal() or len(offset) > 18:
                raise InvalidInput("fedn-offset", "is missing or no number", "send it as metadata of Submit")
            await combiner.submit(str(metadata.get("fedn-grant", "")), int(offset), calls.unframed(raws))
        except FednError as error:
            await calls.refuse(context, error)
        return DONE

    return handle
