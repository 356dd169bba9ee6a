from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from fedn.domain import errors
from fedn.domain.errors import FednError, InvalidInput, LinkBroken
from fedn.wire.status import CODE_KEY, CUT_OFF, WRITE_FAILED, from_rpc, to_rpc


def _tree(cls: type[FednError]) -> Iterator[type[FednError]]:
    yield cls
    for child in cls.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _tree(child)


def _arrived(
    code: grpc.StatusCode, details: str, metadata: tuple[tuple[str, str], ...]
) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*metadata), details=details)


def _error(cls: type[FednError]) -> FednError:
    return (
        cls("size", "too large", "send less")
        if issubclass(cls, InvalidInput)
        else cls("what happened – élan")
    )


@pytest.mark.parametrize("cls", list(_tree(FednError)))
def test_every_error_arrives_as_the_class_that_was_raised(cls: type[FednError]) -> None:
    raised = _error(cls)
    arrived = from_rpc(_arrived(*to_rpc(raised)))
    assert type(arrived) is cls
    assert arrived.message == raised.message


def test_codes_tell_the_classes_apart() -> None:
    codes = [cls.code for cls in _tree(FednError)]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize(
    ("cls", "code"),
    [
        (errors.FednError, grpc.StatusCode.INTERNAL),
        (errors.InvalidModel, grpc.StatusCode.INVALID_ARGUMENT),
        (errors.NotFound, grpc.StatusCode.NOT_FOUND),
        (errors.StaleTerm, grpc.StatusCode.ABORTED),
        (errors.Incompatible, grpc.StatusCode.FAILED_PRECONDITION),
        (errors.LinkBroken, grpc.StatusCode.UNAVAILABLE),
        (errors.Busy, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (errors.Damaged, grpc.StatusCode.INTERNAL),
    ],
)
def test_the_status_says_roughly_the_same_to_other_languages(
    cls: type[FednError], code: grpc.StatusCode
) -> None:
    assert to_rpc(_error(cls))[0] is code


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNKNOWN,
    ],
)
def test_a_status_that_nobody_raised_is_a_broken_link(code: grpc.StatusCode) -> None:
    arrived = from_rpc(_arrived(code, "socket closed", ()))
    assert type(arrived) is LinkBroken
    assert "socket closed" in arrived.message


def test_a_call_that_ends_while_it_is_written_says_so_in_words() -> None:
    arrived = from_rpc(_arrived(grpc.StatusCode.INTERNAL, WRITE_FAILED, ()))
    assert type(arrived) is LinkBroken
    assert arrived.message == CUT_OFF


def test_an_unknown_call_may_be_a_stranger_on_the_port_and_is_tried_again() -> None:
    assert type(from_rpc(_arrived(grpc.StatusCode.UNIMPLEMENTED, "", ()))) is LinkBroken


def test_a_code_of_a_later_version_is_taken_for_a_broken_link() -> None:
    arrived = from_rpc(_arrived(grpc.StatusCode.UNAVAILABLE, "", ((CODE_KEY, "moon_phase"),)))
    assert type(arrived) is LinkBroken


def test_a_long_message_is_cut_to_what_a_header_carries() -> None:
    assert len(to_rpc(FednError("x" * 100_000))[1]) < 2000
