"""The bounds of a safetensors header, one by one; what it costs does not depend on what is in it."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from fedn.domain import model
from fedn.domain.errors import InvalidModel
from fedn.domain.model import (
    MAX_HEADER_BYTES,
    MAX_METADATA_LENGTH,
    MAX_NAME_LENGTH,
    MAX_TENSORS,
    Layout,
    parse_layout,
)
from fedn.helpers.files import read_file

GOOD = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
MIB = 2**20


def parsed(header: str | bytes, data: bytes = bytes(4)) -> Layout:
    raw = header.encode() if isinstance(header, str) else header
    file = len(raw).to_bytes(8, "little") + raw + data
    return parse_layout(file, len(file))


def test_a_name_may_be_long_but_not_longer_than_its_bound() -> None:
    longest = "n" * MAX_NAME_LENGTH
    assert parsed(f'{{"{longest}":{GOOD}}}').tensors[0].name == longest
    with pytest.raises(InvalidModel, match="has a name that is not 1 to 512") as caught:
        parsed(f'{{"{longest}n":{GOOD}}}')
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("name", ["", "\\n", "a\\u001b[2J", "\\ud800", "\\u202e", "\\u0000"])
def test_a_name_is_printable(name: str) -> None:
    with pytest.raises(InvalidModel, match="printable"):
        parsed(f'{{"{name}":{GOOD}}}')


@pytest.mark.parametrize(
    "header",
    [
        f'{{"w":{GOOD},"w":{GOOD}}}',
        '{"w":{"dtype":"F64","dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        f'{{"__metadata__":{{}},"w":{GOOD},"__metadata__":{{}}}}',
        f'{{"__metadata__":{{"a":"1","a":"2"}},"w":{GOOD}}}',
        f'{{"w":{GOOD},"\\u0077":{GOOD}}}',  # the same name, written in another way
    ],
)
def test_a_name_that_comes_twice_is_refused(header: str) -> None:
    with pytest.raises(InvalidModel, match="name twice"):
        parsed(header)


@pytest.mark.parametrize("metadata", ["null", "[]", '"text"', '{"a":1}', '{"a":{"b":"c"}}', '{"a":null}'])
def test_metadata_is_texts_by_name(metadata: str) -> None:
    with pytest.raises(InvalidModel, match="__metadata__ that is not made of texts"):
        parsed(f'{{"__metadata__":{metadata},"w":{GOOD}}}')


def test_metadata_has_a_bound() -> None:
    most = "x" * (MAX_METADATA_LENGTH - 1)
    assert len(parsed(f'{{"__metadata__":{{"a":"{most}"}},"w":{GOOD}}}').tensors) == 1
    with pytest.raises(InvalidModel, match=r"__metadata__ of 1048577 letters"):
        parsed(f'{{"__metadata__":{{"a":"{most}x"}},"w":{GOOD}}}')


@pytest.mark.parametrize("before", [" ", "\n", "\ufeff", "\t "])
def test_nothing_stands_before_the_header(before: str) -> None:
    with pytest.raises(InvalidModel, match="not an object"):
        parsed(f'{before}{{"w":{GOOD}}}')


def test_padding_behind_the_header_is_allowed() -> None:
    assert parsed(f'{{"w":{GOOD}}}' + " " * 77).data_start == 8 + len(f'{{"w":{GOOD}}}') + 77


@pytest.mark.parametrize("behind", ["x", "{}", "\0", ",", "]"])
def test_nothing_else_stands_behind_the_header(behind: str) -> None:
    with pytest.raises(InvalidModel, match="no JSON header"):
        parsed(f'{{"w":{GOOD}}}{behind}')


@pytest.mark.parametrize(
    "header", [b'{"\xff":1}', b'{"\xed\xa0\x80":1}', b'{"a":"\xc3"}', b'{"a":"\x00"}', b"\xef\xbb\xbf{}"]
)
def test_what_is_not_utf8_is_refused(header: bytes) -> None:
    with pytest.raises(InvalidModel):
        parsed(header)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e3", "1.0", "-1", "true", "null", '"1"', "9" * 5000])
def test_shapes_and_offsets_are_whole_numbers(value: str) -> None:
    for shape, offsets in [(f"[{value}]", "[0,4]"), ("[1]", f"[0,{value}]"), (value, "[0,4]")]:
        with pytest.raises(InvalidModel):
            parsed(f'{{"w":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}')


@pytest.mark.parametrize(
    "shape", [[0, 2**62], [2**40, 0, 2**40], [0] * 3 + [2**31] * 4, [2**62], [2**32, 2**31]]
)
def test_a_shape_that_no_memory_holds_is_refused_even_if_it_is_empty(shape: list[int]) -> None:
    entry = {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}
    with pytest.raises(InvalidModel, match="no memory holds"):
        parsed(json.dumps({"w": entry}), b"")


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2**20, 0, 2**20), (0,) * 32])
def test_an_empty_tensor_is_read_by_helpers_too(shape: tuple[int, ...]) -> None:
    entry = {"dtype": "F32", "shape": list(shape), "data_offsets": [0, 0]}
    raw = json.dumps({"e": entry}).encode()
    file = len(raw).to_bytes(8, "little") + raw
    assert read_file(memoryview(file))["e"].shape == shape


def test_tensors_may_stand_in_any_order_in_the_header() -> None:
    entries = {name: {"dtype": "U8", "shape": [1], "data_offsets": [at, at + 1]} for name, at in
               [("c", 2), ("a", 0), ("b", 1)]}  # fmt: skip
    assert [t.name for t in parsed(json.dumps(entries), bytes(3)).tensors] == ["a", "b", "c"]


def test_an_empty_tensor_inside_another_is_refused() -> None:
    entries = {"w": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]},
               "e": {"dtype": "U8", "shape": [0], "data_offsets": [2, 2]}}  # fmt: skip
    with pytest.raises(InvalidModel, match="overlaps or leaves a gap"):
        parsed(json.dumps(entries))


def test_as_many_tensors_as_are_allowed_and_not_one_more() -> None:
    spec = '{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    names = [f'"{n}":{spec}' for n in range(MAX_TENSORS + 1)]
    assert len(parsed("{" + ",".join(names[1:]) + "}", b"").tensors) == MAX_TENSORS
    with pytest.raises(InvalidModel, match=f"holds {MAX_TENSORS + 1} tensors"):
        parsed("{" + ",".join(names) + "}", b"")


def filled(start: str, unit: str, end: str) -> bytes:
    """A header of the greatest length, full of ``unit``."""
    room = MAX_HEADER_BYTES - len(start.encode()) - len(end.encode())
    return (start + unit * (room // len(unit.encode())) + end).encode()


def unlike(count: int) -> bytes:
    return ("{" + ",".join(f'"{n:x}":0' for n in range(count)) + "}").encode()


WORST = {
    "lists": filled('{"a":[', "[],", "0]}"),
    "objects": filled('{"a":[', "{},", "0]}"),
    "objects of one": filled('{"a":[', '{"a":0},', "0]}"),
    "texts": filled('{"a":[', '"ab",', "0]}"),
    "numbers": filled('{"a":[', "999,", "0]}"),
    "zeros": filled('{"a":[', "0,", "0]}"),
    "fractions": filled('{"a":[', "1.5,", "0]}"),
    "huge numbers": filled('{"a":[', "9" * 4300 + ",", "0]}"),
    "one name": filled('{"', "n", f'":{GOOD}}}'),
    "one wide name": filled('{"\U0001f600', "n", f'":{GOOD}}}'),
    "one escaped name": filled('{"', "\\u1234", f'":{GOOD}}}'),
    "names": unlike(1_500_000),
    "as many names as pass": unlike(590_000),
    "the same name": filled("{", '"a":0,', '"b":0}'),
    "the same name, as often as passes": ("{" + '"a":0,' * 590_000 + '"b":0}').encode(),
    "depth": filled('{"a":', "[", ""),
    "depth that passes": ('{"a":' + "[" * 390_000).encode(),
    "deep objects that pass": ('{"a":' * 190_000).encode(),
    "padding": filled("{}", " ", ""),
    "metadata": filled('{"__metadata__":{"a":"', "x", '"}}'),
    "metadata's names": b'{"__metadata__":' + unlike(290_000).replace(b":0", b':""') + b"}",
}  # fmt: skip


@pytest.mark.parametrize("what", WORST)
def test_no_header_costs_much_more_than_its_length(what: str) -> None:
    """Ten bytes of memory for each of 16 MiB at most. It was 25 before marks were counted."""
    file = len(WORST[what]).to_bytes(8, "little") + WORST[what]
    tracemalloc.start()
    try:
        with pytest.raises(InvalidModel) as caught:
            parse_layout(file, len(file) + 4)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 * MAX_HEADER_BYTES, f"{peak / MIB:.0f} MiB"
    assert len(caught.value.message) < 2000


def test_a_model_of_very_many_tensors_is_within_the_count_of_marks() -> None:
    """The counts leave room: 100,000 tensors with 12 dimensions each, and JSON within the metadata."""
    entry = {"dtype": "U8", "shape": [1] * 12, "data_offsets": [0, 1]}
    marks = json.dumps({f"n{n}": entry for n in range(1000)}).encode()
    for mark, most in model._MARKS.items():
        assert marks.count(mark) < 0.95 * most * 1000
    config = json.dumps(json.dumps([[{"a": [1, 2]}] * 10] * 1000))
    assert len(parsed(f'{{"__metadata__":{{"config":{config}}},"w":{GOOD}}}').tensors) == 1


def test_what_the_library_writes_with_metadata_is_read_alike() -> None:
    tensors = {"é.weight": np.ones((2, 2), np.float32), "scalar": np.array(3.0)}
    file = save(tensors, metadata={"format": "pt", "ключ": "😀"})
    read: dict[str, Any] = read_file(memoryview(file))
    assert {k: v.tolist() for k, v in read.items()} == {k: v.tolist() for k, v in load(file).items()}
