"""Hostile inputs: valid messages spoilt at random, and the question whether memory came back.

How many are tried is `RUNS`: few in `make test`, always the same ones; `make fuzz` asks for more, and
for others with another FEDN_FUZZ_SEED.
"""

from __future__ import annotations

import gc
import os
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from random import Random

from hypothesis import HealthCheck, settings

FEW = 300
RUNS = int(os.environ.get("FEDN_FUZZ_RUNS") or FEW)
SEED = int(os.environ.get("FEDN_FUZZ_SEED") or 0)

fuzzed = settings(
    max_examples=RUNS,
    deadline=timedelta(seconds=30) if RUNS > FEW else None,
    derandomize=SEED == 0,
    database=None,
    suppress_health_check=list(HealthCheck),
)
"""For hypothesis: so many examples, and none of them may hang."""

_EDGES = (0, 1, 0x0A, 0x12, 0x20, 0x22, 0x2C, 0x5B, 0x5C, 0x5D, 0x7B, 0x7D, 0x7F, 0x80, 0xC3, 0xF0, 0xFF)
_PIECES = (
    b"\xff" * 9 + b"\x01", b"\x80" * 10, b"\x00" * 8, b"\xff" * 8, b"\x7f\xff\xff\xff", b'"', b"[", b"{}",
    b"-1", b"9" * 30, b"1e999", b"NaN", b"null", b"\\ud800", b"\xed\xa0\x80", b"\n",
    b"../", b"%00", b"\xf0\x9f\x98\x80",
)  # fmt: skip


def spoilt(random: Random, good: Sequence[bytes]) -> bytes:
    """One of ``good`` after one to eight changes: bits, bytes, pieces cut, doubled, moved, grafted."""
    data = bytearray(random.choice(good))
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        random.choice(_CHANGES)(random, data, good)
    return bytes(data)


def inputs(good: Sequence[bytes], runs: int, seed: int = SEED, most_random: int = 200) -> Iterator[bytes]:
    """``runs`` hostile inputs: one in eight is noise, the others are spoilt ``good`` ones."""
    random = Random(seed)
    for number in range(runs):
        if number % 8 == 0:
            yield random.randbytes(random.randrange(most_random))
        else:
            yield spoilt(random, good)


def _span(random: Random, data: bytearray) -> slice:
    start = random.randrange(len(data) + 1)
    return slice(start, min(len(data), start + random.choice((1, 2, 4, 8, 16, 64))))


def _flip(random: Random, data: bytearray, _: Sequence[bytes]) -> None:
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _set(random: Random, data: bytearray, _: Sequence[bytes]) -> None:
    if data:
        data[random.randrange(len(data))] = random.choice((*_EDGES, random.randrange(256)))


def _cut(random: Random, data: bytearray, _: Sequence[bytes]) -> None:
    del data[_span(random, data)]


def _truncate(random: Random, data: bytearray, _: Sequence[bytes]) -> None:
    del data[random.randrange(len(data) + 1) :]


def _double(random: Random, data: bytearray, _: Sequence[bytes]) -> None:
    span = _span(random, data)
    data[span.stop : span.stop] = data[span] * random.choice((1, 1, 2, 50))


def _insert(random: Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = random.randrange(len(data) + 1)
    data[at:at] = random.choice(_PIECES)


def _graft(random: Random, data: bytearray, good: Sequence[bytes]) -> None:
    other = bytearray(random.choice(good))
    data[_span(random, data)] = other[_span(random, other)]


_CHANGES: Sequence[Callable[[Random, bytearray, Sequence[bytes]], None]] = (
    _flip, _flip, _set, _set, _cut, _truncate, _double, _insert, _graft,
)  # fmt: skip


@contextmanager
def no_growth(most: int) -> Iterator[None]:
    """The block may leave at most ``most`` bytes of Python objects behind. Warm caches up before it."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        yield
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown <= most, f"{grown} bytes were left behind, {most} are allowed"


def resident() -> int:
    """Bytes of memory that this process has now."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
