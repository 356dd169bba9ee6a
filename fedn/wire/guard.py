"""At the door of every gRPC server: who calls, whether they may, and for how long.

`new_server` puts a `RoleInterceptor` before all methods, also gRPC's own and those that do not exist. What
lies behind learns who calls by ``caller.get()``, and is never called by somebody who may not.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from contextvars import ContextVar
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from fedn.domain.errors import FednError, Forbidden, InvalidInput, Unauthenticated
from fedn.domain.identity import FOREVER, Principal, Role
from fedn.identity.certificates import read_certificate
from fedn.identity.roles import may_rpc
from fedn.wire.status import to_rpc

log = logging.getLogger("fedn.wire")

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Find: TypeAlias = Callable[[grpc.HandlerCallDetails], Awaitable[Any]]

EXPIRED = "the certificate has expired; connect anew"
LOOK_SECONDS = 30.0
"""An open call looks at the clock, which may jump, at least so often."""
FAREWELL_SECONDS = 5.0
"""What a peer that does not read is given to take the reason for an end."""

caller: ContextVar[Principal] = ContextVar("caller", default=Principal(Role.ANYBODY, ""))  # noqa: B039
"""Who makes the call that is being answered; anybody where there is no wire, as in one process."""


def principal_of(context: Context) -> Principal:
    """Whom the certificate of a call's connection names; ANYBODY where the transport is plain.

    Raises Unauthenticated.
    """
    shown = context.auth_context()
    if list(shown.get("transport_security_type", ())) == [b"insecure"]:
        return Principal(Role.ANYBODY, context.peer())
    certificates = list(shown.get("x509_pem_cert", ()))
    if len(certificates) != 1:
        raise Unauthenticated("no certificate was shown; join the network first")
    return read_certificate(bytes(certificates[0])).principal


class RoleInterceptor(grpc.aio.ServerInterceptor):
    """Lets a call through to its handler if the table in `fedn.identity.roles` says so.

    Raises Unauthenticated or Forbidden to the caller; a call that is open when the certificate expires
    by which it was opened ends with Unauthenticated.
    """

    async def intercept_service(self, continuation: Find, handler_call_details: Any) -> Any:
        handler = await continuation(handler_call_details)
        method = str(handler_call_details.method)
        if handler is None:
            return grpc.stream_stream_rpc_method_handler(_guarded(method, _no_such_method))
        for kind in ("unary_unary", "unary_stream", "stream_unary", "stream_stream"):
            if (answer := getattr(handler, kind)) is not None:
                read = None
                if kind.startswith("unary"):  # by gRPC it would be read before anybody asks who calls
                    read, handler = handler.request_deserializer, handler._replace(request_deserializer=None)
                return handler._replace(**{kind: _guarded(method, answer, read)})
        raise TypeError(f"{method} has no handler")


async def _no_such_method(_: Any, context: Context) -> None:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")


def _guarded(
    method: str, answer: Callable[..., Any], read: Callable[[bytes], Any] | None = None
) -> Callable[[Any, Context], Any]:
    """``answer``, for those who may call it, for as long as they may; ``read`` makes its request of bytes."""
    if not (inspect.iscoroutinefunction(answer) or inspect.isasyncgenfunction(answer)):
        answer = _no_such_method  # in an async server the mark of a method that nobody has written

    async def handle(request: Any, context: Context) -> Any:
        try:
            principal = _admitted(method, context)
            caller.set(principal)
            request = _read(read, request) if read else request
            if principal.expires_at == FOREVER:
                return await _answered(answer, request, context)
            return await _until(principal.expires_at, _answered(answer, request, context))
        except FednError as error:
            await _refuse(method, context, error)

    return handle


async def _refuse(method: str, context: Context, error: FednError) -> None:
    log.info("%s was refused: %s", method, error.message)
    if not context.done():
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                await context.abort(*to_rpc(error))


def _read(read: Callable[[bytes], Any], raw: bytes) -> Any:
    try:
        return read(raw)
    except DecodeError as error:
        raise InvalidInput("message", f"is not readable: {error}", "send what the method takes") from None


async def _answered(answer: Callable[..., Any], request: Any, context: Context) -> Any:
    """What a coroutine returns; the items of a generator are written here, where the call can be ended."""
    if not inspect.isasyncgenfunction(answer):
        return await answer(request, context)
    async with aclosing(answer(request, context)) as items:
        async for item in items:
            await context.write(item)
    return None


def _admitted(method: str, context: Context) -> Principal:
    principal = principal_of(context)
    if time.time() >= principal.expires_at:
        raise Unauthenticated(EXPIRED)
    if not may_rpc(principal.role, method):
        raise Forbidden(f"a {principal.role} may not call {method}")
    return principal


async def _until(expires_at: float, work: Awaitable[Any]) -> Any:
    """What ``work`` returns; Unauthenticated as soon as the clock shows ``expires_at``."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task
    ended = False
    timer: asyncio.Handle

    def look() -> None:
        nonlocal ended, timer
        left = expires_at - time.time()
        if left <= 0:
            ended = True
            task.cancel()
        else:
            timer = loop.call_later(min(left, LOOK_SECONDS), look)

    timer = loop.call_soon(look)
    try:
        return await work
    except asyncio.CancelledError:
        # Somebody else may have ended it at the same time, and then there is nobody to tell.
        if not ended or task.uncancel():
            raise
        raise Unauthenticated(EXPIRED) from None
    finally:
        timer.cancel()
