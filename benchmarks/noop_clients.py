"""Real clients around a trainer that does next to nothing: several in one process, as the floor has them.

Each has its own gRPC link, its own journal (with its fsyncs) and its own model cache. Only
training is left out. Run as ``python -m benchmarks.noop_clients URL DIRECTORY NUMBER...``.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from fedn import logs
from fedn.client.app import IN_MEMORY_BYTES
from fedn.client.driver import Client
from fedn.client.journal import FileJournal
from fedn.client.links import GrpcCombiner
from fedn.domain.identity import Role, parse_token
from fedn.domain.ids import ClientId
from fedn.domain.messages import ClientInfo, Task
from fedn.helpers.files import layout_of
from fedn.identity.entering import Applicant, enter
from fedn.ports import Observed, Trained
from fedn.running import first_of, run_until_signalled
from fedn.stores.cache import file_cache
from fedn.wire.reducer_link import HttpReducer


class NoopTrainer:
    """Implements ports.Trainer: the first number times 1 + number / 10,000, weighing number + 1 examples.

    One number must change, or the next model would have the same digest and nobody would fetch it.
    """

    def __init__(self, number: int) -> None:
        self._number = number

    def train(self, model: memoryview, task: Task, package: memoryview | None = None) -> Trained:
        layout = layout_of(model)
        start = layout.data_start
        first = np.frombuffer(model[start : start + 4], np.float32) * np.float32(1 + self._number / 10_000)
        file = b"".join([model[:start], first.tobytes(), model[start + 4 :]])
        return Trained(file, layout.digest, self._number + 1, {})

    def report(
        self, model: memoryview, task: Task, package: memoryview | None = None
    ) -> tuple[int, Mapping[str, float]]:
        return 1, {}

    def cancel(self, task: Task) -> None:
        """It is over before anybody could."""

    def hurry(self) -> None:
        """Nor does anything go on."""


class Silent:
    """An Observer that lets everything pass."""

    def observe(self, observed: Observed) -> None:
        pass


async def client(url: str, directory: Path, number: int) -> Client:
    """With an https reducer it joins by the token that lies ready for it."""
    home = directory / f"client-{number}"
    name = ClientId(f"noop-{number}")
    token = directory.parent / "tokens" / f"{name}.token"
    who = Applicant(Role.CLIENT, name, name, home / "identity")
    membership = await enter(url, lambda: parse_token("join", token.read_text()), who)
    wallet = membership.wallet if membership else None
    models = file_cache(home / "models", keep=2, in_memory=IN_MEMORY_BYTES)
    journal = FileJournal(home / "journal", 8 * 2**30)
    info, reducer = ClientInfo(name, name), HttpReducer(url, wallet)
    return Client(
        info,
        reducer,
        partial(GrpcCombiner, wallet=wallet),
        NoopTrainer(number),
        journal,
        models,
        Silent(),
        f"combiner-{number % 2 + 1}",
    )


async def serve(url: str, directory: Path, numbers: list[int], stop: asyncio.Event) -> None:
    clients = [await client(url, directory, number) for number in numbers]
    try:
        await first_of(stop, *(one.run() for one in clients))
    finally:
        for one in clients:
            await one.close()


def main(url: str, directory: str, *numbers: str) -> None:
    logs.configure("client", "warning")
    run_until_signalled(lambda stop: serve(url, Path(directory), [int(n) for n in numbers], stop))


if __name__ == "__main__":
    main(*sys.argv[1:])
