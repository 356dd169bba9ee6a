"""Data sets as they lie on disk: npz, CSV, folders; and the folder that a split becomes."""

from __future__ import annotations

import io
import json
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest

from fedn.domain.errors import InvalidInput, NotFound
from fedn.sdk.data.counts import distribution
from fedn.sdk.data.folder import ABOUT, Split, check_room, read_split, write_split
from fedn.sdk.data.npz import read_npz, write_npz
from fedn.sdk.data.source import Wanted, read_source

TABLE = """age,site,outcome,weight
31,north,1,80.5
"44",west,0, 61
52,north,1,77e0
"""


def zipped(**entries: bytes) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(f"{name}.npy", content)
    return data.getvalue()


def npy(array: np.ndarray, **more: bool) -> bytes:
    data = io.BytesIO()
    np.lib.format.write_array(data, array, **more)
    return data.getvalue()


def header(shape: str, dtype: str = "|u1") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


# --- npz -------------------------------------------------------------------------------------------


def test_arrays_are_written_as_numpy_reads_them_and_the_same_each_time():
    arrays = {
        "x": np.arange(6.0).reshape(2, 3, order="F"), "file": np.array(["é", "b"]), "n.1": np.arange(2) > 0
    }  # fmt: skip
    first, second = io.BytesIO(), io.BytesIO()
    write_npz(first, arrays)
    write_npz(second, arrays)
    assert first.getvalue() == second.getvalue()
    first.seek(0)
    with np.load(first, allow_pickle=False) as found:
        assert {*found} == {*arrays}
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].dtype == array.dtype


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("something was unpickled",))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is not a whole npz file"),
        (zipped(x=npy(np.arange(3)))[:-30], "is not a whole npz file"),
        (zipped(x=npy(np.array([Trap()]), allow_pickle=True)), "holds no plain array as 'x'"),
        (zipped(x=pickle.dumps(Trap())), "holds no plain array as 'x'"),
        (zipped(x=npy(np.zeros(2, [("a", "i4"), ("b", "O")]), allow_pickle=True)), "holds no plain array"),
        (zipped(x=header("(1000000000000,)")), "holds no plain array as 'x'"),
        (zipped(x=header("(-1, -8)") + b"8 bytes."), "holds no plain array as 'x'"),
        (zipped(x=header("(__import__('os'),)")), "holds no plain array as 'x'"),
        (zipped(x=npy(np.zeros(3))[:-1]), "holds no plain array as 'x'"),
        (zipped(x=npy(np.zeros(3)) + b"more"), "holds no plain array as 'x'"),
        (zipped(**{"../x": npy(np.zeros(3))}), "has an array named '../x'"),
        (zipped(**{f"a{n}": b"" for n in range(1001)}), "has 1001 arrays"),
        (zipped(), "has 0 arrays"),
    ],
)
def test_a_file_that_is_no_plain_npz_is_refused(tmp_path, data, words):
    file = tmp_path / "bad.npz"
    file.write_bytes(data)
    with pytest.raises(InvalidInput, match=f"bad.npz: {words}"):
        read_npz(file)


def test_more_than_the_bound_is_refused_before_it_is_unpacked(tmp_path):
    packed = zipped(**{name: bytes(2**20) for name in "abc"})
    directory = packed.index(b"PK\x01\x02")
    real, claimed = (2**20).to_bytes(4, "little"), (2**32 - 2).to_bytes(4, "little")
    file = tmp_path / "bomb.npz"
    file.write_bytes(packed[:directory] + packed[directory:].replace(real, claimed))
    with pytest.raises(InvalidInput, match=r"bomb.npz: holds 12884901882 bytes unpacked"):
        read_npz(file)


def test_memory_is_not_spent_on_what_a_header_promises(tmp_path):
    file = tmp_path / "promise.npz"
    file.write_bytes(zipped(x=header("(2000000000,)") + b"short"))
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInput, match=r"promise.npz: holds no plain array as 'x'"):
            read_npz(file)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


# --- sources ---------------------------------------------------------------------------------------


def test_a_table_becomes_x_y_and_key(tmp_path):
    file = tmp_path / "patients.CSV"
    file.write_text(TABLE, encoding="utf-8-sig")
    told: list[int] = []
    found = read_source(file, Wanted(label="outcome", key="site"), told.append)
    assert found.arrays["x"].tolist() == [[31, 80.5], [44, 61], [52, 77]]
    assert found.arrays["y"].tolist() == [1, 0, 1]
    assert found.arrays["y"].dtype == np.int64
    assert found.arrays["key"].tolist() == ["north", "west", "north"]
    assert (found.label, found.key, found.columns, found.examples) == ("y", "key", ("age", "weight"), 3)
    assert sum(told) == file.stat().st_size
    few = read_source(file, Wanted(key="site", label="site", only=("age",)))
    assert few.arrays["y"].tolist() == few.arrays["key"].tolist()
    assert few.columns == ("age",)


@pytest.mark.parametrize(
    ("text", "wanted", "words"),
    [
        ("", Wanted(), "t.csv: has no header row"),
        ("a,a\n1,2\n", Wanted(), "t.csv: has no header row of different names"),
        ("a,b\n", Wanted(), "t.csv: holds no examples"),
        ("a,b\n1,2\n\n3\n", Wanted(), "t.csv: line 4 has 1 cells for 2 columns"),
        (TABLE, Wanted(), "t.csv: line 2, column site: 'north' is no number — fill it in, name"),
        ("a,b\n1,\n", Wanted(), "t.csv: line 2, column b: '' is no number"),
        ("a,b\n1,\n", Wanted(label="b"), "t.csv: line 2, column b has 0 characters"),
        (TABLE, Wanted(label="income"), "--label: .*t.csv has no column 'income' — it has age, site"),
        (TABLE, Wanted(key="income"), "--key: .* has no column 'income'"),
        (TABLE, Wanted(only=("income",)), "--array: .* has no column 'income'"),
        ('a\n"1\n', Wanted(), "t.csv: line 2: "),
        ("a\n" + "1" * 2**20, Wanted(), "t.csv: has a line of 1048576 bytes or more"),
        ("a\n\xff\n", Wanted(), "t.csv: is not UTF-8"),
        (",".join(map(str, range(10_001))), Wanted(), "t.csv: has 10001 columns"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_a_bad_table_is_refused_by_line_and_column(tmp_path, text, wanted, words):
    file = tmp_path / "t.csv"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(InvalidInput, match=words):
        read_source(file, wanted)


@pytest.mark.parametrize(
    ("name", "wanted", "words"),
    [
        ("d.npz", Wanted(label="z"), "--label: .*d.npz has no array 'z' — it has x, y"),
        ("d.npz", Wanted(key="z"), "--key: .*d.npz has no array 'z'"),
        ("d.npz", Wanted(only=("z",)), "d.npz: has no array 'z'"),
        ("uneven.npz", Wanted(), r"arrays: differ in their number of examples \(x 3, y 2\)"),
        ("scalar.npz", Wanted(), "scalar.npz: holds no examples"),
        ("d.txt", Wanted(), "d.txt: is of no known kind — give an .npz, a .csv or a folder"),
        ("gone.npz", Wanted(), "gone.npz: can't be read .No such file"),
        (".", Wanted(), "has no train-images-idx3-ubyte.gz"),
    ],
)
def test_what_is_no_data_set_is_named(tmp_path, name, wanted, words):
    np.savez(tmp_path / "d.npz", x=np.zeros(3), y=np.zeros(3, int))
    np.savez(tmp_path / "uneven.npz", x=np.zeros(3), y=np.zeros(2))
    np.savez(tmp_path / "scalar.npz", x=np.zeros(()))
    (tmp_path / "d.txt").write_text("1")
    with pytest.raises(InvalidInput, match=words):
        read_source(tmp_path / name, wanted)


def test_only_some_arrays_are_taken_so_that_they_are_of_one_length(tmp_path):
    file = tmp_path / "d.npz"
    np.savez(file, x=np.zeros(3), y=np.arange(3), x_test=np.zeros(2))
    found = read_source(file, Wanted(only=("x",), label="y"))
    assert {*found.arrays} == {"x", "y"}


@pytest.mark.parametrize(
    ("y", "label"), [(np.arange(3), "y"), (np.zeros(3), None), (np.eye(3, dtype=int), None)], ids=str
)
def test_what_is_called_y_is_the_label_if_it_looks_like_one(tmp_path, y, label):
    np.savez(tmp_path / "d.npz", y=y)
    assert read_source(tmp_path / "d.npz", Wanted()).label == label


# --- the folder ------------------------------------------------------------------------------------

LABELS = np.array([0, 1, 1, 0, 1])
PARTS = [np.array([0, 3, 4]), np.array([1]), np.array([2])]


def written(folder, clients: int = 3, labelled: bool = True) -> Split:
    counted = distribution(LABELS if labelled else ["all"] * 5, PARTS[:clients])
    split = Split({"scheme": "even", "seed": 1}, counted, labelled)
    write_split(folder, {"x": LABELS * 2.0}, PARTS[:clients], split)
    return split


@pytest.mark.parametrize("labelled", [True, False])
def test_what_is_written_is_told(tmp_path, labelled):
    split = written(tmp_path / "new" / "parts", labelled=labelled)
    found = read_split(tmp_path / "new" / "parts")
    assert found.as_dict() == split.as_dict()
    assert found.counted.counts.tolist() == split.counted.counts.tolist()
    assert found.labelled == labelled


def test_an_earlier_split_goes_away_and_nothing_else(tmp_path):
    written(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "client-x.npz").write_text("mine")
    with pytest.raises(InvalidInput, match="is not empty — give another folder, or --force"):
        check_room(tmp_path, force=False)
    check_room(tmp_path, force=True)
    written(tmp_path, clients=1)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"client-1.npz", ABOUT, "notes.txt", "client-x.npz"}
    assert len(read_split(tmp_path).counted.counts) == 1


def test_a_split_that_broke_off_is_not_told_of(tmp_path):
    written(tmp_path)
    blocked = tmp_path / "client-2.npz"
    blocked.unlink()
    blocked.mkdir()
    with pytest.raises(InvalidInput, match="can't be written"):
        written(tmp_path)
    assert not list(tmp_path.glob(".*.tmp"))
    with pytest.raises(NotFound, match="holds no split"):
        read_split(tmp_path)


def test_a_folder_whose_files_are_gone_says_so(tmp_path):
    written(tmp_path)
    (tmp_path / "client-2.npz").unlink()
    with pytest.raises(NotFound, match=r"client-2.npz is gone"):
        read_split(tmp_path)


GOOD = {"note": "", "examples": 1, "labels": ["a"], "clients": [{"examples": 1, "counts": {"a": 1}}]}


@pytest.mark.parametrize(
    "text",
    [
        b"", b"[]", b"\xff", b"[" * 100_000,
        *(json.dumps(GOOD | wrong).encode() for wrong in (
            {"labels": [1]}, {"clients": []}, {"clients": {}}, {"clients": [1]}, {"labels": ["b"]},
            {"clients": [{"counts": {"a": -1}}]}, {"clients": [{"counts": {"a": True}}]},
            {"clients": [{"counts": {"a": 2**70}}]}, {"labels": [], "clients": [{}]},
            {"labels": ["a"] * 10_001},
        )),
    ],
    ids=lambda text: text[:60],
)  # fmt: skip
def test_a_partition_json_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "client-1.npz").write_bytes(b"")
    (tmp_path / ABOUT).write_text(json.dumps(GOOD))
    assert read_split(tmp_path).counted.counts.tolist() == [[1]]
    (tmp_path / ABOUT).write_bytes(text)
    with pytest.raises(InvalidInput, match=f"{ABOUT}: is not as"):
        read_split(tmp_path)
