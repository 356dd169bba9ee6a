"""The combiner's small listener: what it answers, and that nobody can hold it up."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from fedn.combiner import prometheus
from fedn.combiner.counts import Measured, UpdateCounts
from fedn.combiner.prometheus import MAX_CONNECTIONS, MAX_HEAD_BYTES, Listener
from fedn.config import CombinerSettings
from fedn.domain.errors import InvalidConfig
from fedn.domain.messages import Gauge

NOW = Measured(UpdateCounts(7, 5, 1), 1000, 2000, (Gauge("clients", 3, 10, 4), Gauge("parts", 1, 256, 2)))


@pytest.fixture
async def where():
    server = await Listener(lambda: NOW, lambda who: None).listen("127.0.0.1", 0, None)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def asked(port: int, method: str = "GET", path: str = "/metrics") -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
        return await http.request(method, f"http://127.0.0.1:{port}{path}")


async def said(port: int, data: bytes) -> bytes:
    """All that is answered until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    try:
        async with asyncio.timeout(20):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_it_tells_what_is_measured(where):
    answer = await asked(where)
    values = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert values["fedn_combiner_clients",] == 3
    assert values["fedn_combiner_updates_received_total",] == 7
    assert values["fedn_combiner_updates_folded_total",] == 5
    assert values["fedn_combiner_updates_refused_total",] == 1
    assert values["fedn_combiner_received_bytes_total",] == 1000
    assert values["fedn_combiner_sent_bytes_total",] == 2000
    assert values["fedn_gauge_peak", "clients"] == 4
    head = await asked(where, "HEAD")
    assert (head.status_code, head.content) == (200, b"")


async def test_it_answers_nothing_else(where):
    assert (await asked(where, path="/")).status_code == 404
    assert (await asked(where, "POST")).status_code == 405


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x00", b"nonsense\r\n\r\n", b"GET /metrics HTTP/1.1\r\n\r\n",
                                  b"GET /" + b"x" * (2 * MAX_HEAD_BYTES)])  # fmt: skip
async def test_what_is_no_request_is_hung_up_on(where, data, monkeypatch):
    monkeypatch.setattr(prometheus, "SECONDS", 0.5)
    assert await said(where, data) == b""
    assert (await asked(where)).status_code == 200


async def test_the_silent_take_no_more_than_their_places_and_not_for_long(where, monkeypatch):
    monkeypatch.setattr(prometheus, "SECONDS", 0.5)
    silent = [await asyncio.open_connection("127.0.0.1", where) for _ in range(MAX_CONNECTIONS)]
    assert await said(where, b"GET /metrics HTTP/1.0\r\n\r\n") == b"", "all places are taken"
    for reader, writer in silent:
        assert await reader.read() == b""
        writer.close()
    assert (await asked(where)).status_code == 200


async def test_a_port_that_is_taken_is_named(where):
    with pytest.raises(InvalidConfig, match="metrics_port"):
        await Listener(lambda: NOW, lambda who: None).listen("127.0.0.1", where, None)


def test_beyond_loopback_it_needs_an_identity_or_the_word_insecure():
    with pytest.raises(InvalidConfig, match="metrics_host"):
        CombinerSettings(metrics_host="0.0.0.0")
    assert CombinerSettings(metrics_host="0.0.0.0", insecure_no_tls_no_auth=True)
    assert CombinerSettings(metrics_host="0.0.0.0", reducer="https://fl.example.org:8090")
