"""Downloads that break: what came is kept, and the next call goes on from there, whoever answers it."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import fedn.stores.cache as cache
from fedn.domain.errors import Damaged, LinkBroken, NotFound, StoreUnavailable
from fedn.domain.ids import digest_of
from fedn.domain.messages import FetchRequest
from fedn.ports import Buffer
from fedn.stores.cache import PARTIAL, ModelCache, file_cache

SIZE = 300_000
PIECE = 10_000
IN_MEMORY = 500_000


def blob(seed: int, size: int = SIZE) -> bytes:
    return random.Random(seed).randbytes(size)


class Source:
    """Serves one blob, and breaks after ``budget`` bytes until it is given more."""

    def __init__(self, data: bytes, budget: int) -> None:
        self.data, self.budget, self.sent = data, budget, 0
        self.offsets: list[int] = []

    async def __call__(self, request: FetchRequest) -> AsyncIterator[Buffer]:
        self.offsets.append(request.offset)
        for start in range(request.offset, len(self.data), PIECE):
            if self.budget < PIECE:
                raise LinkBroken("cut")
            self.budget -= PIECE
            self.sent += PIECE
            yield self.data[start : start + PIECE]


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache.random, "uniform", lambda low, high: 0.0)


@pytest.fixture(params=["memory", "file"])
def models(request: pytest.FixtureRequest, tmp_path: Path) -> ModelCache:
    return file_cache(tmp_path / "models", keep=2, in_memory=IN_MEMORY if request.param == "memory" else 0)


def files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def whole(models: ModelCache, data: bytes) -> bytes:
    with models.map(digest_of(data)) as view:
        return bytes(view)


async def test_a_download_goes_on_at_another_combiner(models: ModelCache) -> None:
    data = blob(1)
    first, second = Source(data, budget=200_000), Source(data, budget=SIZE)
    with pytest.raises(LinkBroken):
        await models.ensure(digest_of(data), SIZE, first)
    await models.ensure(digest_of(data), SIZE, second)
    assert whole(models, data) == data
    assert (first.sent, second.sent) == (200_000, 100_000)


async def test_short_breaks_are_bridged_within_one_call(models: ModelCache) -> None:
    data = blob(2)

    class Stumbling(Source):
        async def __call__(self, request: FetchRequest) -> AsyncIterator[Buffer]:
            self.budget = 50_000
            async for chunk in super().__call__(request):
                yield chunk

    source = Stumbling(data, 0)
    await models.ensure(digest_of(data), SIZE, source)
    assert source.offsets == [0, 50_000, 100_000, 150_000, 200_000, 250_000]
    assert whole(models, data) == data


async def test_a_link_that_breaks_after_the_last_byte_is_not_asked_again(models: ModelCache) -> None:
    data = blob(3)

    async def fetch(request: FetchRequest) -> AsyncIterator[Buffer]:
        assert request.offset == 0
        yield data
        raise LinkBroken("cut before the end was said")

    await models.ensure(digest_of(data), SIZE, fetch)
    assert whole(models, data) == data


async def test_bytes_that_are_not_the_models_are_thrown_away(models: ModelCache) -> None:
    data = blob(4)
    with pytest.raises(LinkBroken):
        await models.ensure(digest_of(data), SIZE, Source(blob(5), budget=200_000))
    with pytest.raises(Damaged):
        await models.ensure(digest_of(data), SIZE, Source(data, budget=SIZE))
    good = Source(data, budget=SIZE)
    await models.ensure(digest_of(data), SIZE, good)
    assert good.offsets == [0]


@pytest.mark.parametrize("size", [SIZE - PIECE, SIZE + PIECE])
async def test_a_model_of_another_length_than_announced_is_refused(models: ModelCache, size: int) -> None:
    data = blob(6)
    with pytest.raises(Damaged, match="announced"):
        await models.ensure(digest_of(data), size, Source(data, budget=SIZE))


async def test_only_a_few_broken_downloads_are_kept(tmp_path: Path) -> None:
    models = file_cache(tmp_path / "models", keep=2, in_memory=0)
    blobs = [blob(seed) for seed in range(PARTIAL + 2)]
    for data in blobs:
        with pytest.raises(LinkBroken):
            await models.ensure(digest_of(data), SIZE, Source(data, budget=200_000))
    assert len(files(tmp_path)) == PARTIAL
    for data, offset in ((blobs[0], 0), (blobs[-1], 200_000)):
        again = Source(data, budget=SIZE)
        await models.ensure(digest_of(data), SIZE, again)
        assert again.offsets[0] == offset
    await models.close()
    assert sorted(path.name for path in files(tmp_path)) == sorted(
        digest_of(d) for d in (blobs[0], blobs[-1])
    )


async def test_a_model_that_is_not_there_leaves_nothing(tmp_path: Path) -> None:
    models = file_cache(tmp_path / "models", keep=2, in_memory=0)

    async def fetch(request: FetchRequest) -> AsyncIterator[Buffer]:
        raise NotFound("no such model")
        yield b""

    with pytest.raises(NotFound):
        await models.ensure(digest_of(b"x"), SIZE, fetch)
    assert files(tmp_path) == []


async def test_a_full_disk_keeps_what_came_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, data = file_cache(tmp_path / "models", keep=2, in_memory=0), blob(7)
    room, real = 105_000, os.pwrite

    def pwrite(descriptor: int, piece: memoryview, position: int) -> int:
        if position >= room:
            raise OSError(28, "No space left on device")
        return real(descriptor, piece[: room - position], position)

    source = Source(data, budget=2 * SIZE)
    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", pwrite)
        with pytest.raises(StoreUnavailable, match=r"models.*No space left"):
            await models.ensure(digest_of(data), SIZE, source)
    await models.ensure(digest_of(data), SIZE, source)
    assert source.offsets == [0, 100_000]
    assert whole(models, data) == data


def test_what_a_dead_process_left_goes_at_the_start(tmp_path: Path) -> None:
    models = file_cache(tmp_path / "models", keep=2, in_memory=0)
    left = models._stores[False].incoming()
    left.write(b"half")
    assert len(files(tmp_path)) == 1
    file_cache(tmp_path / "models", keep=2, in_memory=0)
    assert files(tmp_path) == []
    left.drop()
