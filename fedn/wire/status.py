"""Errors as gRPC statuses and back: the same class arrives that was raised.

The status code is derived from an error's HTTP ``status``; its ``code`` travels in the trailing
metadata. Servicers end a call with ``await context.abort(*to_rpc(error))``; links make their calls
inside `rpc_errors`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from fedn.domain.errors import FednError, LinkBroken, error_from
from fedn.wire.tls_reasons import tls_reason

CODE_KEY = "fedn-code"
"""Trailing metadata: the ``code`` of the error."""

_MAX_DETAILS = 1500
"""Characters of a message that travel; HTTP/2 headers are bounded, and percent-encoding may triple it."""

CUT_OFF = "the call was cut off"
"""The message where nobody can say why a call ended; it is made again, and then may be told."""

WRITE_FAILED = "Internal error from Core"
"""What grpc.aio puts in place of a call's status when the neighbour ends it while a message is written."""

_BY_STATUS = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.ABORTED,
    426: grpc.StatusCode.FAILED_PRECONDITION,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
}


def to_rpc(error: FednError) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str], ...]]:
    """Status code, details and trailing metadata for ``error``, in the order of ``context.abort``."""
    return _BY_STATUS[error.status], error.message[:_MAX_DETAILS], ((CODE_KEY, error.code),)


def from_rpc(rpc_error: grpc.aio.AioRpcError) -> FednError:
    """The error that the neighbour raised, or LinkBroken when none did.

    A status without our code comes from gRPC itself: a lost connection, a deadline, a cancelled call,
    a neighbour that crashed. All of these mean that calling again is right.
    """
    details = rpc_error.details() or rpc_error.code().name
    if details == WRITE_FAILED:
        return LinkBroken(CUT_OFF)
    if error := error_from(_code_in(rpc_error), details):
        return error
    if rpc_error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return LinkBroken(f"whoever answers there is no neighbour of this version: {details}")
    reason = tls_reason(details)
    return LinkBroken(f"{rpc_error.code().name}: {details}" + (f" — {reason}" if reason else ""))


@contextmanager
def rpc_errors() -> Iterator[None]:
    """Inside, a failed call raises what `from_rpc` makes of it.

    A call whose link breaks while requests are written may look cancelled, or in an invalid state,
    although nobody cancelled this task; that is a broken link, too.
    """
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise from_rpc(error) from None
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise LinkBroken(CUT_OFF) from None
    except (asyncio.InvalidStateError, grpc.aio.UsageError) as error:
        raise LinkBroken(f"the call had ended, or its channel was closed: {error}") from None


def _code_in(rpc_error: grpc.aio.AioRpcError) -> str:
    for key, value in rpc_error.trailing_metadata() or ():
        if key == CODE_KEY:
            return str(value)
    return ""
