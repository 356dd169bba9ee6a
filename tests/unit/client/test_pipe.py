"""Messages between client and worker: whole, bounded, or an error."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from fedn.client.pipe import MAX_BYTES, Pipe


@pytest.fixture
def ends() -> Iterator[tuple[Pipe, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Pipe(ours), theirs


def test_messages_come_in_their_order(ends: tuple[Pipe, socket.socket]) -> None:
    ours, theirs = ends
    other = Pipe(theirs)
    for text in ("ä", "x" * 10_000):
        other.send({"text": text})
    assert [ours.receive(5), ours.receive(5)] == [{"text": "ä"}, {"text": "x" * 10_000}]


def test_the_end_is_none_even_within_a_message(ends: tuple[Pipe, socket.socket]) -> None:
    ours, theirs = ends
    theirs.sendall(b"\0\0\0\x09{}")
    theirs.close()
    assert ours.receive(5) is None
    assert ours.receive(5) is None


@pytest.mark.parametrize(
    "raw",
    [
        (MAX_BYTES + 1).to_bytes(4, "big"),
        b"\0\0\0\x02{]",
        b"\0\0\0\x02[]",
        b"\0\0\0\x02\xff\xff",
        b"\0\x01\x86\xa0" + b"[" * 100_000,
    ],
    ids=["too long", "no JSON", "no object", "no text", "too deep"],
)
def test_what_is_no_message_is_an_error(ends: tuple[Pipe, socket.socket], raw: bytes) -> None:
    ours, theirs = ends
    theirs.sendall(raw)
    with pytest.raises(ValueError, match=r".") as caught:
        ours.receive(5)
    assert not isinstance(caught.value, OSError)


def test_waiting_has_an_end_even_for_who_speaks_slowly(ends: tuple[Pipe, socket.socket]) -> None:
    ours, theirs = ends
    theirs.sendall(b"\0\0\0\x02{")
    with pytest.raises(TimeoutError):
        ours.receive(0.05)


def test_a_message_that_is_too_long_is_not_sent(ends: tuple[Pipe, socket.socket]) -> None:
    with pytest.raises(OSError, match="a message of"):
        ends[0].send({"text": "x" * MAX_BYTES})
