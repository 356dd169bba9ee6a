"""How a request is gathered: all of it, nothing of the next one, and not by looking again and again."""

from __future__ import annotations

import socket

import pytest
from web_site import head

from fedn.reducer import web_connection
from fedn.reducer.web_connection import MAX_HEAD_BYTES, Wire

BODY = b"\r\n\r\nContent-Length: 9\r\n\r\n"
ASK = head("GET /healthz HTTP/1.1")
POST = head("POST /login HTTP/1.1", f"Content-Length: {len(BODY)}") + BODY
LINES = ASK.replace(b"\r\n", b"\n")


@pytest.fixture
def ends():
    """A wire, and the socket at its other end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Wire(ours, None, 20.0), theirs


def test_byte_by_byte_each_request_is_complete_at_its_last(ends):
    wire, peer = ends
    for request in (ASK, POST, LINES, POST, ASK):
        for number, byte in enumerate(request, 1):
            peer.send(bytes([byte]))
            assert wire.gather() == (number == len(request)), request[:number]
        assert wire.read(len(request)) == request


def test_what_came_together_is_gathered_one_by_one(ends):
    wire, peer = ends
    requests = [POST, ASK, LINES, POST]
    peer.send(b"".join(requests)[:-1])
    for request in requests[:-1]:
        assert wire.gather()
        assert wire.read(len(request)) == request
    assert not wire.gather()
    peer.send(POST[-1:])
    assert wire.gather()
    assert wire.read(len(POST)) == POST


class Counted:
    """A pattern that counts how many bytes it was given to look at."""

    seen = 0

    def __init__(self, pattern):
        self.pattern = pattern

    def search(self, text, start=0, stop=2**30):
        Counted.seen += max(0, min(stop, len(text)) - start)
        return self.pattern.search(text, start, stop)

    def findall(self, text):
        Counted.seen += len(text)
        return self.pattern.findall(text)


@pytest.mark.parametrize("what", ["head", "body"])
def test_the_work_grows_with_the_bytes_not_with_the_pieces(ends, monkeypatch, what):
    for name in ("_HEAD_ENDS", "_LENGTH", "_BODY_LATER"):
        monkeypatch.setattr(web_connection, name, Counted(getattr(web_connection, name)))
    monkeypatch.setattr(Counted, "seen", 0)
    long = head("POST /login HTTP/1.1", "X: " + "x" * (MAX_HEAD_BYTES - 200), "Content-Length: 3000")
    request = long + b"\r" * 3000
    whole = long if what == "body" else b""  # the rest comes by the byte
    wire, peer = ends
    peer.send(whole)
    for byte in request[len(whole) : -1]:
        peer.send(bytes([byte]))
        assert not wire.gather()
    peer.send(request[-1:])
    assert wire.gather()
    assert Counted.seen < 20 * len(request)
