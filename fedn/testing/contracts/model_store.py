"""The promises of `fedn.ports.ModelStore`, as tests. See the package docstring for how to use them."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest

from fedn.domain.errors import Damaged, InvalidInput, NotFound
from fedn.domain.ids import Digest, digest_of
from fedn.ports import Buffer, ModelStore
from fedn.testing.contracts.state_store import together

CHUNK = 2**20
ABSENT = digest_of(b"never stored")


class ModelStoreContract:
    """Subclass and provide a fixture ``store`` that yields an empty ModelStore."""

    def test_a_blob_comes_back(self, store: ModelStore) -> None:
        blob = random.Random(1).randbytes(3 * CHUNK + 17)
        digest, size = store.put(pieces(blob, 300_000))
        assert (digest, size) == (digest_of(blob), len(blob))
        assert store.size(digest) == len(blob)
        assert whole(store, digest) == blob
        assert list(store.digests()) == [digest]

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_every_kind_of_chunk_is_taken(self, store: ModelStore, kind: type) -> None:
        chunks = [kind(b"one "), kind(b""), kind(b"two")]
        assert store.put(chunks) == (digest_of(b"one two"), 7)

    def test_a_chunk_may_be_overwritten_once_it_is_taken(self, store: ModelStore) -> None:
        buffer = bytearray(4)

        def chunks() -> Iterator[Buffer]:
            for text in (b"abcd", b"efgh"):
                buffer[:] = text
                yield memoryview(buffer)

        digest, _ = store.put(chunks())
        assert whole(store, digest) == b"abcdefgh"

    def test_an_empty_blob_is_a_blob(self, store: ModelStore) -> None:
        digest, size = store.put([])
        assert (digest, size, store.size(digest)) == (digest_of(b""), 0, 0)
        assert list(store.read(digest)) == []
        with store.map(digest) as view:
            assert bytes(view) == b""

    def test_chunks_are_bounded(self, store: ModelStore) -> None:
        digest, _ = store.put([bytes(2 * CHUNK + 5)])
        lengths = [len(chunk) for chunk in store.read(digest)]
        assert max(lengths) <= CHUNK
        assert sum(lengths) == 2 * CHUNK + 5

    def test_reading_goes_on_at_an_offset(self, store: ModelStore) -> None:
        blob = random.Random(2).randbytes(CHUNK + 100)
        digest, size = store.put([blob])
        for offset in (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, size - 1, size):
            assert whole(store, digest, offset) == blob[offset:]

    def test_an_offset_outside_the_blob_is_refused(self, store: ModelStore) -> None:
        digest, size = store.put([b"abc"])
        for offset in (-1, size + 1):
            with pytest.raises(InvalidInput):
                list(store.read(digest, offset))

    def test_an_unused_reader_holds_nothing(self, store: ModelStore) -> None:
        digest, _ = store.put([bytes(2 * CHUNK)])
        store.read(digest)
        next(iter(store.read(digest)))

    def test_the_expected_blob_is_taken(self, store: ModelStore) -> None:
        assert store.put([b"abc"], digest_of(b"abc")) == (digest_of(b"abc"), 3)

    def test_another_blob_than_expected_leaves_nothing(self, store: ModelStore) -> None:
        with pytest.raises(Damaged):
            store.put([b"abd"], digest_of(b"abc"))
        assert list(store.digests()) == []
        with pytest.raises(NotFound):
            store.size(digest_of(b"abc"))

    def test_the_expected_digest_is_checked_though_the_blob_is_there(self, store: ModelStore) -> None:
        digest, _ = store.put([b"abc"])
        with pytest.raises(Damaged):
            store.put([b"abd"], digest)
        assert whole(store, digest) == b"abc"

    def test_a_blob_is_kept_once(self, store: ModelStore) -> None:
        first = store.put([b"abc"])
        assert store.put([b"a", b"bc"]) == first
        assert list(store.digests()) == [first[0]]
        assert whole(store, first[0]) == b"abc"

    def test_a_broken_stream_leaves_nothing(self, store: ModelStore) -> None:
        def chunks() -> Iterator[Buffer]:
            yield b"abc"
            raise ConnectionResetError("the sender went away")

        with pytest.raises(ConnectionResetError, match="went away"):
            store.put(chunks())
        assert list(store.digests()) == []

    def test_what_is_not_there_is_not_found(self, store: ModelStore) -> None:
        with pytest.raises(NotFound):
            store.size(ABSENT)
        with pytest.raises(NotFound):
            list(store.read(ABSENT))
        with pytest.raises(NotFound), store.map(ABSENT):
            pass

    @pytest.mark.parametrize("name", ["", "../../etc/passwd", "ab/../" + "a" * 58, "A" * 64, ABSENT + "\n"])
    def test_a_name_that_is_no_digest_never_becomes_a_path(self, store: ModelStore, name: str) -> None:
        with pytest.raises(InvalidInput):
            store.size(Digest(name))
        with pytest.raises(InvalidInput):
            list(store.read(Digest(name)))
        with pytest.raises(InvalidInput), store.map(Digest(name)):
            pass
        with pytest.raises(InvalidInput):
            store.put([b"abc"], Digest(name))
        with pytest.raises(InvalidInput):
            store.delete(Digest(name))

    def test_a_map_shows_the_whole_blob(self, store: ModelStore) -> None:
        blob = random.Random(3).randbytes(CHUNK + 1)
        digest, _ = store.put([blob])
        with store.map(digest) as view:
            assert view.readonly
            assert (view.format, view.ndim, len(view)) == ("B", 1, len(blob))
            assert view == blob
        with pytest.raises(ValueError, match="released"):
            view[0]

    def test_an_array_over_a_map_outlives_it(self, store: ModelStore) -> None:
        digest, _ = store.put([bytes(range(8))])
        with store.map(digest) as view:
            array, piece = np.frombuffer(view, dtype=np.uint8), view[2:4]
        assert array.tolist() == list(range(8))
        assert bytes(piece) == b"\x02\x03"

    def test_a_deleted_blob_is_gone(self, store: ModelStore) -> None:
        digest, _ = store.put([b"abc"])
        kept, _ = store.put([b"kept"])
        store.delete(digest)
        store.delete(digest)
        with pytest.raises(NotFound):
            store.size(digest)
        assert list(store.digests()) == [kept]
        assert store.put([b"abc"]) == (digest, 3)
        assert whole(store, digest) == b"abc"

    def test_a_mapped_blob_outlives_its_deletion(self, store: ModelStore) -> None:
        digest, _ = store.put([b"abc"])
        with store.map(digest) as view:
            store.delete(digest)
            assert bytes(view) == b"abc"

    def test_digests_lists_every_blob(self, store: ModelStore) -> None:
        expected = {store.put([b"%d" % k])[0] for k in range(40)}
        listed = list(store.digests())
        assert len(listed) == 40
        assert set(listed) == expected

    def test_many_may_put_the_same_blob(self, store: ModelStore) -> None:
        blob = random.Random(4).randbytes(200_000)
        results = together([lambda: store.put(pieces(blob, 10_000))] * 8)
        assert results == [(digest_of(blob), len(blob))] * 8
        assert list(store.digests()) == [digest_of(blob)]
        assert whole(store, digest_of(blob)) == blob

    def test_many_may_put_and_read_different_blobs(self, store: ModelStore) -> None:
        def round_trip(seed: int) -> bool:
            blob = random.Random(seed).randbytes(50_000)
            digest, _ = store.put(pieces(blob, 7_000), digest_of(blob))
            return whole(store, digest) == blob

        assert all(together([partial(round_trip, seed) for seed in range(8)]))

    def test_blobs_are_listed_with_their_sizes_and_times(self, store: ModelStore) -> None:
        expected = {store.put([bytes(k)]) for k in range(40)}
        listed = list(store.blobs())
        assert {(blob.digest, blob.size) for blob in listed} == expected
        assert len(listed) == 40
        assert all(abs(blob.written_at - time.time()) < 3600 for blob in listed)
        one = store.blob(listed[0].digest)
        assert (one.digest, one.size) == (listed[0].digest, listed[0].size)
        assert abs(one.written_at - listed[0].written_at) < 2  # a server may say one of them to the second
        with pytest.raises(NotFound):
            store.blob(ABSENT)

    def spoil(self, store: ModelStore, digest: Digest, blob: bytes) -> None:
        """Have these bytes under a digest that is not theirs, behind the store's back."""
        pytest.skip("how this store's blobs are damaged is not known")

    @pytest.mark.parametrize("damaged", [b"abd", b"ab"])
    def test_a_damaged_blob_is_whole_once_it_is_put_again(self, store: ModelStore, damaged: bytes) -> None:
        digest, _ = store.put([b"abc"])
        self.spoil(store, digest, damaged)
        assert store.put([b"abc"]) == (digest, 3)
        assert (store.size(digest), whole(store, digest)) == (3, b"abc")
        with store.map(digest) as view:
            assert bytes(view) == b"abc"

    def test_a_blob_that_is_put_again_is_as_young(self, store: ModelStore) -> None:
        digest, _ = store.put([b"abc"])
        before, ends = store.blob(digest).written_at, time.monotonic() + 30
        while store.blob(digest).written_at <= before:  # servers and file systems count in steps
            assert time.monotonic() < ends
            store.put([b"abc"])

    def test_close_may_be_called_twice(self, store: ModelStore) -> None:
        store.close()
        store.close()


def pieces(blob: bytes, size: int) -> Iterator[Buffer]:
    """``blob`` as a stream of chunks."""
    for start in range(0, len(blob), size):
        yield memoryview(blob)[start : start + size]


def whole(store: ModelStore, digest: Digest, offset: int = 0) -> bytes:
    """Everything that read() yields."""
    return b"".join(store.read(digest, offset))
