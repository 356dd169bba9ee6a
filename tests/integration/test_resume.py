"""Transfers of a large model go on where they broke, on each of the four ways that it takes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from federations import Running, running
from proxy import Proxy

from fedn.helpers.files import seed_file
from fedn.sandbox.processes import HOST, free_port

ELEMENTS = 10_000_000
MODEL = 4 * ELEMENTS
PART = 8 * ELEMENTS
CHUNK = 2**20
CUTS = 3
SEED = 1


class Proxied:
    """One combiner and one client, with a proxy before the combiner and one before the reducer."""

    def __init__(self, running: Running, doors: ExitStack) -> None:
        self.running = running
        self.port = free_port(0)
        self.combiner = doors.enter_context(Proxy(f"{HOST}:{self.port}"))
        self.reducer = doors.enter_context(Proxy(f"{HOST}:{running.sandbox.port}"))

    def start(self) -> str:
        """A session of one round with a large model."""
        where = (f"--port={self.port}", f"--advertise={self.combiner.address}", "--client-grace=60")
        self.running.sandbox.start_combiner("combiner-1", *where, f"--reducer=http://{self.reducer.address}")
        self.running.sandbox.start_client(0, "--log-level=debug")
        self.running.attached(1)
        seed = seed_file({"w": np.zeros(ELEMENTS, dtype=np.float32)})
        model = self.running.reducer.upload("/models", iter([seed]), len(seed), name="zeros")
        plan = {"rounds": 1, "min_clients": 1, "validate": False, "round_deadline": 90.0}
        body = {"name": "resumed", "model": model["digest"], "plan": plan}
        return str(self.running.reducer.post("/sessions", body)["session"])

    def working(self) -> None:
        """Wait until the client has the model."""
        log = self.running.sandbox.processes["client-1"].log
        self.running.until(lambda: "working" in log.read_text())

    def finish(self, session: str) -> None:
        self.running.finished(session)
        assert self.running.audit(session) < 1e-6
        assert self.running.trained(0) == [1]


@pytest.fixture
def proxied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxied]:
    with ExitStack() as doors, running(tmp_path, monkeypatch, combiners=0, clients=1) as federation:
        yield Proxied(federation, doors)


def cut_often(proxied: Proxied, proxy: Proxy, upwards: bool, size: int) -> None:
    """Reset the connection that carries the transfer at random instants, one after the other."""
    rng, before = random.Random(SEED), proxy.cuts
    while (done := proxy.cuts - before) < CUTS:
        proxy.cut_after(rng.randrange(size // 8, size // (CUTS + 1)), upwards)
        proxied.running.until(lambda done=done: proxy.cuts - before > done)


def in_bounds(carried: int, size: int) -> None:
    """All of it was sent, and at most a tenth and one chunk of it again."""
    assert size <= carried <= 1.10 * size + CHUNK, f"{carried / 2**20:.1f} of {size / 2**20:.1f} MiB"


def test_a_client_downloads_its_model_across_cuts(proxied: Proxied) -> None:
    session, before = proxied.start(), proxied.combiner.down
    cut_often(proxied, proxied.combiner, False, MODEL)
    proxied.working()
    in_bounds(proxied.combiner.down - before, MODEL)
    proxied.running.open_gate()
    proxied.finish(session)


def test_a_client_uploads_its_update_across_cuts(proxied: Proxied) -> None:
    session = proxied.start()
    proxied.working()
    before = proxied.combiner.up
    proxied.running.open_gate()
    cut_often(proxied, proxied.combiner, True, MODEL)
    proxied.finish(session)
    in_bounds(proxied.combiner.up - before, MODEL)


def test_a_combiner_downloads_its_model_across_cuts(proxied: Proxied) -> None:
    before = proxied.reducer.down
    session = proxied.start()
    cut_often(proxied, proxied.reducer, False, MODEL)
    proxied.working()
    in_bounds(proxied.reducer.down - before, MODEL)
    proxied.running.open_gate()
    proxied.finish(session)


def test_a_combiner_goes_on_when_the_reducer_was_out_of_reach_for_long(proxied: Proxied) -> None:
    before = proxied.reducer.down
    session = proxied.start()
    proxied.reducer.cut_after(MODEL // 2, upwards=False)
    proxied.running.until(lambda: proxied.reducer.cuts)
    proxied.reducer.refuse()
    refused = proxied.reducer.refused
    proxied.running.until(lambda: proxied.reducer.refused >= refused + 10)  # one call gives up after six
    proxied.reducer.accept()
    proxied.working()
    in_bounds(proxied.reducer.down - before, MODEL)
    proxied.running.open_gate()
    proxied.finish(session)


def test_the_reducer_fetches_a_part_across_cuts(proxied: Proxied) -> None:
    session = proxied.start()
    proxied.working()
    before = proxied.combiner.down
    proxied.running.open_gate()
    cut_often(proxied, proxied.combiner, False, PART)
    proxied.finish(session)
    in_bounds(proxied.combiner.down - before, PART)


def test_an_upload_goes_on_after_its_client_was_killed(proxied: Proxied) -> None:
    """It dies with its upload broken, before it can go on by itself."""
    session = proxied.start()
    proxied.working()
    before = proxied.combiner.up
    proxied.combiner.cut_after(MODEL // 2, upwards=True)
    proxied.combiner.refuse()
    proxied.running.open_gate()
    proxied.running.until(lambda: proxied.combiner.cuts)
    proxied.running.sandbox.kill("client-1")
    proxied.combiner.accept()
    proxied.running.sandbox.start_client(0)
    proxied.finish(session)
    in_bounds(proxied.combiner.up - before, MODEL)
