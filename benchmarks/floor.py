"""The floors: the least that could move the same bytes with Python gRPC, in the same processes as ours.

One coordinator, two servers, clients in two processes; a round is: the coordinator puts the model to the
servers, wakes the clients, they fetch it, change one number and push it back in raw chunks of 1 MiB, the
servers fold them into float64 sums, the coordinator fetches the sums and divides. No store, no trail, no
identities, no recovery, no admission.

``checked`` adds what our system does to every update: the client hashes it and journals it (write and
fsync); the server stages it in an unlinked temporary file, compares the sha256, looks for NaN and
infinity, and folds it from the file. Nothing else is added, neither the hashes of parts nor the durable
commit at the top.

Plain code that imports nothing of the system. Each process is ``python -m benchmarks.floor ROLE JSON``.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import mmap
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np

CHUNK = 2**20
SMALL = 2**16
BLOCK = 2**16
OPTIONS = (
    ("grpc.max_receive_message_length", 16 * CHUNK),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", CHUNK),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)


async def pieces(array: np.ndarray) -> AsyncIterator[bytes]:
    view = array.data.cast("B")
    for start in range(0, len(view), CHUNK):
        yield bytes(view[start : start + CHUNK])


async def sending(chunks: list[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def fold(total: np.ndarray, data: memoryview | bytes, first: int, weight: float, scratch: np.ndarray) -> None:
    """total[first:] += weight * data, in blocks that stay in the cache."""
    values = np.frombuffer(data, np.float32)
    for start in range(0, len(values), BLOCK):
        block = values[start : start + BLOCK]
        part = scratch[: len(block)]
        np.multiply(block, weight, out=part, dtype=np.float64)
        total[first + start : first + start + len(block)] += part


def finite(data: memoryview | bytes) -> bool:
    words = np.frombuffer(data, np.uint32)
    return all(
        (words[start : start + BLOCK] & np.uint32(0x7F80_0000)).max() < 0x7F80_0000
        for start in range(0, len(words), BLOCK)
    )


class Server:
    """Stands where a combiner stands."""

    def __init__(self, size: int, clients: int, directory: str, checked: bool) -> None:
        self.size, self.expected, self.directory, self.checked = size, clients, directory, checked
        self.model: list[bytes] = []
        self.total = np.zeros(size // 4)
        self.scratch = np.empty(BLOCK)
        self.folded = 0
        self.waiting: list[asyncio.Queue[bytes]] = []
        self.complete = asyncio.Event()
        self.folding = asyncio.Lock()

    async def attach(self, _: bytes, context: object) -> AsyncIterator[bytes]:
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self.waiting.append(queue)
        while True:
            yield await queue.get()

    async def ready(self, _: bytes, context: object) -> bytes:
        return str(len(self.waiting)).encode()

    async def put(self, chunks: AsyncIterator[bytes], context: object) -> bytes:
        self.model = [chunk async for chunk in chunks]
        return b""

    async def round(self, _: bytes, context: object) -> AsyncIterator[bytes]:
        """Wake the clients, wait for their updates, stream the sum."""
        self.total[:] = 0
        self.folded = 0
        self.complete.clear()
        for queue in self.waiting:
            queue.put_nowait(b"round")
        await self.complete.wait()
        async for piece in pieces(self.total):
            yield piece

    async def fetch(self, _: bytes, context: object) -> AsyncIterator[bytes]:
        for chunk in self.model:
            yield chunk

    async def push(self, chunks: AsyncIterator[bytes], context: Any) -> bytes:
        metadata: dict[str, str] = dict(context.invocation_metadata() or ())
        weight = float(metadata["weight"])
        if self.checked:
            await self.stage_and_fold(chunks, weight, metadata["digest"])
        else:
            first = 0
            async for chunk in chunks:
                fold(self.total, chunk, first, weight, self.scratch)
                first += len(chunk) // 4
        self.folded += 1
        if self.folded == self.expected:
            self.complete.set()
        return b""

    async def stage_and_fold(self, chunks: AsyncIterator[bytes], weight: float, digest: str) -> None:
        digester = hashlib.sha256()
        if self.size <= SMALL:
            data = b"".join([chunk async for chunk in chunks])
            digester.update(data)
            self.judge_and_fold(data, weight, digester.hexdigest() == digest)
            return
        with tempfile.TemporaryFile(dir=self.directory, buffering=0) as file:
            async for chunk in chunks:
                file.write(chunk)
                digester.update(chunk)
            right = digester.hexdigest() == digest
            with mmap.mmap(file.fileno(), self.size, access=mmap.ACCESS_READ) as mapped:
                async with self.folding:
                    await asyncio.to_thread(self.judge_and_fold, mapped, weight, right)

    def judge_and_fold(self, data: bytes | mmap.mmap, weight: float, right: bool) -> None:
        view = memoryview(data)
        if not (right and finite(view)):
            raise ValueError("a damaged update")
        fold(self.total, view, 0, weight, self.scratch)
        del view


async def serve(size: int, clients: int, directory: str, checked: bool) -> None:
    server = Server(size, clients, directory, checked)
    methods: dict[str, Any] = {
        "Attach": grpc.unary_stream_rpc_method_handler(server.attach),
        "Ready": grpc.unary_unary_rpc_method_handler(server.ready),
        "Put": grpc.stream_unary_rpc_method_handler(server.put),
        "Round": grpc.unary_stream_rpc_method_handler(server.round),
        "Fetch": grpc.unary_stream_rpc_method_handler(server.fetch),
        "Push": grpc.stream_unary_rpc_method_handler(server.push),
    }
    listening = grpc.aio.server(options=OPTIONS)
    listening.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Floor", methods),))
    print(listening.add_insecure_port("127.0.0.1:0"), flush=True)
    await listening.start()
    await stdin_closed()
    await listening.stop(0)


async def stdin_closed() -> None:
    await asyncio.to_thread(sys.stdin.read)


async def client(port: int, number: int, directory: str, checked: bool) -> None:
    journal = Path(directory) / f"journal-{number}"
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
        fetch: Any = channel.unary_stream("/Floor/Fetch")
        push: Any = channel.stream_unary("/Floor/Push")
        attach: Any = channel.unary_stream("/Floor/Attach")
        async for _ in attach(b""):
            update = [chunk async for chunk in fetch(b"")]
            update[0] = changed(update[0], number)
            digest = ""
            if checked and len(update) == 1:
                digest = journal_update(update, journal)
            elif checked:
                digest = await asyncio.to_thread(journal_update, update, journal)
            await push(sending(update), metadata=(("weight", str(number + 1)), ("digest", digest)))


def changed(chunk: bytes, number: int) -> bytes:
    """The first number times 1 + number / 10,000, as our clients do it."""
    first = np.frombuffer(chunk, np.float32, 1) * np.float32(1 + number / 10_000)
    return b"".join([first.tobytes(), memoryview(chunk)[4:]])


def journal_update(update: list[bytes], path: Path) -> str:
    digester = hashlib.sha256()
    with path.open("wb", buffering=0) as file:
        for chunk in update:
            file.write(chunk)
            digester.update(chunk)
        os.fsync(file.fileno())
    return digester.hexdigest()


async def clients(ports: list[int], numbers: list[int], directory: str, checked: bool) -> None:
    running = [client(ports[n % len(ports)], n, directory, checked) for n in numbers]
    done, _ = await asyncio.wait(
        [asyncio.create_task(work) for work in [stdin_closed(), *running]],
        return_when=asyncio.FIRST_COMPLETED,
    )
    for task in done:
        task.result()


class Coordinator:
    """Stands where the reducer stands."""

    def __init__(self, size: int, clients: int, channels: list[grpc.aio.Channel]) -> None:
        self.channels = channels
        self.weight = clients * (clients + 1) / 2
        self.model = np.random.default_rng(0).standard_normal(size // 4, np.float32)
        self.total = np.zeros(size // 4)

    async def until_attached(self, clients: int) -> None:
        ready: list[Any] = [channel.unary_unary("/Floor/Ready") for channel in self.channels]
        while sum([int(await ask(b"", wait_for_ready=True)) for ask in ready]) < clients:
            await asyncio.sleep(0.05)

    async def rounds(self, count: int) -> list[float]:
        """Seconds of each."""
        seconds = []
        for _ in range(count):
            began = time.perf_counter()
            self.total[:] = 0
            await asyncio.gather(*(self.part(channel) for channel in self.channels))
            self.model = (self.total / self.weight).astype(np.float32)
            seconds.append(time.perf_counter() - began)
        return seconds

    async def part(self, channel: grpc.aio.Channel) -> None:
        put: Any = channel.stream_unary("/Floor/Put")
        sums: Any = channel.unary_stream("/Floor/Round")
        await put(pieces(self.model))
        first = 0
        async for chunk in sums(b""):
            values = np.frombuffer(chunk)
            self.total[first : first + len(values)] += values
            first += len(values)


async def coordinate(size: int, clients: int, ports: list[int]) -> None:
    channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) for port in ports]
    coordinator = Coordinator(size, clients, channels)
    await coordinator.until_attached(clients)
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        before = float(coordinator.model[0])
        seconds = await coordinator.rounds(int(line))
        answer = {"seconds": seconds, "grown": float(coordinator.model[0]) / before}
        print(json.dumps(answer), flush=True)
    for channel in channels:
        await channel.close()


if __name__ == "__main__":
    role: Any = {"server": serve, "clients": clients, "coordinator": coordinate}[sys.argv[1]]
    asyncio.run(role(**json.loads(sys.argv[2])))
