from __future__ import annotations

import pytest

from fedn.wire.channel import is_loopback


@pytest.mark.parametrize("address", ["127.0.0.1:12080", "127.8.0.1:1", "localhost:80", "[::1]:12080"])
def test_loopback_is_recognised(address: str) -> None:
    assert is_loopback(address)


@pytest.mark.parametrize(
    "address", ["0.0.0.0:12080", "10.0.0.1:80", "example.org:80", "[::]:1", "localhost.example:1"]
)
def test_everything_else_is_not(address: str) -> None:
    assert not is_loopback(address)
