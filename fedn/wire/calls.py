"""gRPC methods as plain functions on domain values: one table for servers, one for stubs.

``service.py`` of the combiner registers handlers made here; the ``links.py`` of reducer and client
make their calls here. Errors cross as `status.py` says, bulk bytes as `chunks.py` says.

Every server of `channel.new_server` has `guard.py` before it: a handler is reached only by a role that may
call it, a call ends when the certificate expires by which it was opened, and while a call is answered
``guard.caller.get()`` is the Principal who makes it, also in tasks that the handler starts; ANYBODY where
the transport is plain.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from fedn.domain.errors import FednError, InvalidInput
from fedn.ports import Buffer
from fedn.wire import codec
from fedn.wire.chunks import frame, unframe
from fedn.wire.guard import Context, Handler
from fedn.wire.status import rpc_errors, to_rpc

log = logging.getLogger("fedn.wire")

CONTROL = "fedn.v1.CombinerControl"
COMBINER = "fedn.v1.Combiner"
UNARY_SECONDS = 10.0
"""How long a unary call may take before the link counts as broken."""

T = TypeVar("T")
Read = Callable[[bytes], Any]
Write = Callable[[Any], bytes]


def reader(message: type[Message], envelope: bool = False) -> Read:
    """Bytes to domain value; None for an envelope around something that only a later version knows."""
    if not envelope:
        return lambda raw: codec.decode(message.FromString(raw))

    def read(raw: bytes) -> Any:
        wrapped: Any = message.FromString(raw)
        return codec.unwrap(wrapped) if wrapped.WhichOneof("message") else None

    return read


def writer(message: type[Message] | None = None) -> Write:
    """Domain value to bytes, inside an envelope if one is given."""
    if message is None:
        return lambda value: codec.encode(value).SerializeToString()
    return lambda value: codec.wrap(message, value).SerializeToString()


# --- serving ---------------------------------------------------------------------------------------


def serve_unary(read: Read, write: Write, answer: Callable[[Any], Awaitable[Any]]) -> Handler:
    """A handler for one value in, one value out."""

    async def handle(raw: bytes, context: Context) -> bytes:
        try:
            return write(await answer(parsed(read, raw)))
        except FednError as error:
            await refuse(context, error)
            raise AssertionError("abort returned") from error

    return grpc.unary_unary_rpc_method_handler(handle)


def serve_stream(read: Read, write: Write, answer: Callable[[Any], AsyncIterator[Any]]) -> Handler:
    """A handler for one value in, a stream of values (or, with `frame`, of chunks) out."""

    async def handle(raw: bytes, context: Context) -> AsyncIterator[bytes]:
        try:
            async for item in answer(parsed(read, raw)):
                yield write(item)
        except FednError as error:
            await refuse(context, error)

    return grpc.unary_stream_rpc_method_handler(handle)


def serve_duplex(
    read: Read, write: Write, answer: Callable[[AsyncIterator[Any]], AsyncIterator[Any]]
) -> Handler:
    """A handler for a stream both ways."""

    async def handle(raws: AsyncIterable[bytes], context: Context) -> AsyncIterator[bytes]:
        try:
            async for item in answer(_parsed_each(read, raws)):
                yield write(item)
        except FednError as error:
            await refuse(context, error)

    return grpc.stream_stream_rpc_method_handler(handle)


async def _parsed_each(read: Read, raws: AsyncIterable[bytes]) -> AsyncIterator[Any]:
    async for raw in raws:
        if (value := parsed(read, raw)) is not None:
            yield value


def parsed(read: Read, raw: bytes) -> Any:
    """The value, or InvalidInput when the bytes are no such message."""
    try:
        return read(raw)
    except DecodeError as error:
        raise InvalidInput("message", f"is not readable: {error}", "compare the protocol versions") from None


async def refuse(context: Context, error: FednError) -> None:
    """End a call with an error; does not return."""
    code, details, trailing = to_rpc(error)
    if error.status == 500:
        log.error("call failed: %s", error.message, exc_info=error)
    await context.abort(code, details, trailing)


# --- calling ---------------------------------------------------------------------------------------


async def call(channel: grpc.aio.Channel, method: str, value: Any, read: Read | None = None) -> Any:
    """One value out, one value in. Raises what the neighbour raised, or LinkBroken."""
    ask: Any = channel.unary_unary(method)
    with rpc_errors():
        raw = await ask(codec.encode(value).SerializeToString(), timeout=UNARY_SECONDS)
    return parsed(read, raw) if read else None


async def stream(channel: grpc.aio.Channel, method: str, value: Any, read: Read) -> AsyncIterator[Any]:
    """One value out, a stream in; read with `unframe` it is a stream of chunks."""
    open_stream: Any = channel.unary_stream(method)
    with rpc_errors():
        answers = open_stream(codec.encode(value).SerializeToString())
    try:
        with rpc_errors():
            async for raw in answers:
                if (item := parsed(read, raw)) is not None:
                    yield item
    finally:
        answers.cancel()


async def duplex(
    channel: grpc.aio.Channel, method: str, messages: AsyncIterator[Any], write: Write, read: Read
) -> AsyncIterator[Any]:
    """A stream both ways; ends when the neighbour ends it."""
    open_duplex: Any = channel.stream_stream(method)
    with rpc_errors():
        answers = open_duplex(_written(messages, write))
    try:
        with rpc_errors():
            async for raw in answers:
                if (item := parsed(read, raw)) is not None:
                    yield item
    finally:
        answers.cancel()


async def _written(messages: AsyncIterator[Any], write: Write) -> AsyncIterator[bytes]:
    async for message in messages:
        yield write(message)


async def upload(
    channel: grpc.aio.Channel,
    method: str,
    chunks: AsyncIterator[Buffer],
    metadata: tuple[tuple[str, str], ...],
) -> None:
    """A stream of chunks out, nothing in."""
    send: Any = channel.stream_unary(method)
    with rpc_errors():
        sending = send(_framed(chunks), metadata=metadata)
    try:
        with rpc_errors():
            await sending
    finally:
        sending.cancel()


async def _framed(chunks: AsyncIterator[Buffer]) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield frame(chunk)


async def unframed(raws: AsyncIterable[bytes]) -> AsyncIterator[Buffer]:
    """The payloads of a stream of chunks."""
    async for raw in raws:
        yield unframe(raw)


__all__ = [
    "COMBINER", "CONTROL", "UNARY_SECONDS", "Context", "Handler", "call", "duplex", "parsed", "reader",
    "refuse", "serve_duplex", "serve_stream", "serve_unary", "stream", "unframed", "upload", "writer",
]  # fmt: skip
