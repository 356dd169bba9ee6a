"""idx files and MNIST, whole, damaged and hostile."""

from __future__ import annotations

import gzip
import os
import struct
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fedn
from fedn.domain.errors import InvalidInput
from fedn.sdk.data.idx import DTYPES

CODES = {np.dtype(name).newbyteorder("="): code for code, name in DTYPES.items()}


def idx(array: np.ndarray) -> bytes:
    """``array`` in the format."""
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, CODES[array.dtype], array.ndim, *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


IMAGES = np.random.default_rng(0).integers(0, 256, (12, 4, 4), np.uint8)
LABELS = np.arange(12, dtype=np.uint8) % 10


@pytest.fixture
def folder(tmp_path):
    """Twelve small images to train with and four to test with."""
    for stem, part in (("train", slice(None)), ("t10k", slice(4))):
        (tmp_path / f"{stem}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(IMAGES[part])))
        (tmp_path / f"{stem}-labels-idx1-ubyte").write_bytes(idx(LABELS[part]))
    return tmp_path


@given(
    st.sampled_from(sorted(CODES, key=str)).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(max_dims=4, min_side=0))
    ),
    st.booleans(),
)
def test_what_is_written_is_read(tmp_path_factory, array, packed):
    file = tmp_path_factory.getbasetemp() / "array"
    file.write_bytes(gzip.compress(idx(array), 1) if packed else idx(array))
    found = fedn.data.read_idx(file)
    assert found.dtype == array.dtype
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, array)


WHOLE = idx(IMAGES)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is not an idx file"),
        (b"\0\0\x07\x01\0\0\0\0", "is not an idx file"),
        (b"\0\0\x08\xff" + b"\0\0\0\1" * 255, "is not an idx file"),
        (WHOLE[:10], "ends within its header"),
        (WHOLE[:-1], "does not hold the 192 bytes"),
        (WHOLE + b"x", "does not hold the 192 bytes"),
        (gzip.compress(WHOLE)[:-9], "is not a whole gzip file"),
        (gzip.compress(WHOLE)[:10] + b"\xff" * 40, "is not a whole gzip file"),
        (gzip.compress(WHOLE)[:-8] + bytes(8), "is not a whole gzip file"),
        (struct.pack(">BBBB3I", 0, 0, 0x0E, 3, 2**31, 2**31, 2**31), "says it holds"),
        (struct.pack(">BBBB2I", 0, 0, 8, 2, 2**16, 2**16) + b"x", "does not hold the 4294967296 bytes"),
        (gzip.compress(struct.pack(">BBBBI", 0, 0, 8, 1, 3) + bytes(2**26)), "does not hold the 3 bytes"),
    ],
    ids=lambda value: value[:25] if isinstance(value, str) else "",
)
def test_a_file_that_is_not_whole_is_refused_without_spending_memory(tmp_path, data, words):
    file = tmp_path / "bad-idx3-ubyte.gz"
    file.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInput, match=f"bad-idx3-ubyte.gz: {words}"):
            fedn.data.read_idx(file)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InvalidInput, match=r"nothing: can't be read .No such file"):
        fedn.data.read_idx(tmp_path / "nothing")


# --- mnist -----------------------------------------------------------------------------------------


def same(found) -> bool:
    (x_train, y_train), (x_test, y_test) = found
    wanted = (IMAGES, LABELS, IMAGES[:4], LABELS[:4])
    return all(map(np.array_equal, (x_train, y_train, x_test, y_test), wanted))


def test_it_is_read_from_a_folder_or_from_the_one_in_the_environment(folder, monkeypatch):
    assert same(fedn.data.mnist(folder))
    monkeypatch.setenv("FEDN_DATA_DIR", str(folder))
    assert same(fedn.data.mnist())
    inner = folder.parent / "outer" / "mnist"
    inner.parent.mkdir()
    folder.rename(inner)
    monkeypatch.setenv("FEDN_DATA_DIR", str(inner.parent))
    assert same(fedn.data.mnist())


def test_it_is_read_from_an_npz_file(tmp_path):
    np.savez_compressed(
        tmp_path / "mnist.npz", x_train=IMAGES, y_train=LABELS, x_test=IMAGES[:4], y_test=LABELS[:4]
    )
    assert same(fedn.data.mnist(tmp_path))
    np.savez(tmp_path / "mnist.npz", x_train=IMAGES)
    with pytest.raises(InvalidInput, match=r"mnist.npz: has no array 'y_train' — it has x_train"):
        fedn.data.mnist(tmp_path)


def test_what_is_missing_is_named(folder, monkeypatch):
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(LABELS[:3]))
    with pytest.raises(InvalidInput, match="has 4 test images and 3 labels"):
        fedn.data.mnist(folder)
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(InvalidInput, match=r"has no t10k-labels-idx1-ubyte\.gz — put it there"):
        fedn.data.mnist(folder)
    monkeypatch.setenv("FEDN_DATA_DIR", str(folder / "elsewhere"))
    with pytest.raises(InvalidInput, match=r"FEDN_DATA_DIR: .*elsewhere has neither"):
        fedn.data.mnist()


def test_without_a_folder_and_without_keras_it_says_what_to_do(monkeypatch):
    monkeypatch.delenv("FEDN_DATA_DIR", raising=False)
    for name in ("keras", "keras.datasets.mnist"):
        monkeypatch.setitem(sys.modules, name, None)  # as where it is not installed
    with pytest.raises(
        InvalidInput, match=r"FEDN_DATA_DIR: names no folder .* — put its files into a folder"
    ):
        fedn.data.mnist()


@pytest.mark.skipif("FEDN_DATA_DIR" not in os.environ, reason="FEDN_DATA_DIR names no folder with MNIST")
def test_the_real_one():
    (x_train, y_train), (x_test, y_test) = fedn.data.mnist()
    assert (x_train.shape, x_test.shape) == ((60_000, 28, 28), (10_000, 28, 28))
    assert x_train.dtype == y_train.dtype == np.uint8
    assert y_train[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert np.bincount(y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    # Mean and deviation that everybody normalises MNIST by.
    assert (x_train.mean() / 255, x_train.std() / 255) == pytest.approx((0.1307, 0.3081), abs=1e-4)
