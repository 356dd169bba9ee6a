from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from fedn.domain import messages as m
from fedn.domain.errors import InvalidInput
from fedn.domain.ids import ClientId, CombinerName, Digest, Incarnation, SessionId
from fedn.domain.part import PartHeader
from fedn.domain.update import Absence, Contributor, UpdateHeader
from fedn.wire.codec import decode, encode, unwrap, wrap
from fedn.wire.pb import fedn_pb2 as pb

HEADER = UpdateHeader(
    SessionId("s"),
    3,
    ClientId("c"),
    Digest("a" * 64),
    10,
    4096,
    Digest("b" * 64),
    Digest("c" * 64),
    {"loss": 0.5},
)
PART = PartHeader(
    SessionId("s"), 3, CombinerName("one"), Incarnation("i"), 1, Digest("d" * 64), 8,
    contributors=(Contributor(ClientId("c"), 10, Digest("b" * 64)),),
    refused=(Absence(ClientId("d"), "stale_round"), Absence(ClientId("e"), "bad_weight")),
)  # fmt: skip

counts = st.integers(min_value=0, max_value=2**64 - 1)


def _round_trip(value: Any) -> Any:
    message = encode(value)
    return decode(type(message).FromString(message.SerializeToString()))


def test_nested_and_repeated_values_come_back_equal() -> None:
    sealed = m.PartSealed(PART, b"\x00\xff")
    assert _round_trip(sealed) == sealed


def test_repeated_fields_come_back_as_tuples_and_maps_as_dicts() -> None:
    back = decode(encode(m.UpdateOffered(HEADER)))
    assert type(back.header.metrics) is dict
    assert type(_round_trip(PART).refused) is tuple


def test_an_empty_message_is_told_from_none_at_all() -> None:
    envelope = pb.ClientMessage.FromString(wrap(pb.ClientMessage, m.Beat()).SerializeToString())
    assert unwrap(envelope) == m.Beat()
    with pytest.raises(InvalidInput, match="empty or of an unknown kind"):
        unwrap(pb.ClientMessage())


def test_a_message_of_a_later_version_is_refused_by_name() -> None:
    later = pb.ClientMessage.FromString(bytes.fromhex("fa3f00"))  # field 1023, empty
    with pytest.raises(InvalidInput, match="ClientMessage"):
        unwrap(later)


def test_enums_travel_as_words() -> None:
    cancelled = m.TaskCancelled(SessionId("s"), 1, m.TaskKind.VALIDATE, "")
    assert encode(cancelled).kind == "validate"
    assert decode(encode(cancelled)).kind is m.TaskKind.VALIDATE
    with pytest.raises(InvalidInput, match=r"kind: 'fly' is unknown — use one of train"):
        decode(pb.TaskCancelled(kind="fly"))


def test_a_missing_part_is_named() -> None:
    with pytest.raises(InvalidInput, match="header: missing"):
        decode(pb.UpdateOffered())


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (m.Granted(SessionId("s"), -1, Digest("d"), "g", 0), "round"),
        (m.UpdateOffered(replace(HEADER, examples=-10)), "header.examples"),
        (m.UpdateOffered(replace(HEADER, size=2**64)), "header.size"),
        (m.UpdateOffered(replace(HEADER, metrics={"loss": "low"})), "header.metrics"),  # type: ignore[dict-item]
        (m.AckRound(1, SessionId("s"), 1, (1, -1)), "counted"),
        (m.TaskFailed(SessionId("s"), 1, m.TaskKind.TRAIN, "\ud800"), "reason"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_naming_its_field(value: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        encode(value)
    assert caught.value.details["field"] == field


def test_wrapping_blames_the_field_too() -> None:
    with pytest.raises(InvalidInput, match="round: -1 does not fit"):
        wrap(pb.CombinerMessage, m.Reoffer(SessionId("s"), -1))


def test_a_message_in_the_wrong_envelope_is_a_bug() -> None:
    with pytest.raises(ValueError, match="beat"):
        wrap(pb.CombinerMessage, m.Beat())


@pytest.mark.parametrize("value", [{}, m.Assignment(CombinerName("one"), "127.0.0.1:1")])
def test_a_class_without_a_message_is_a_bug(value: Any) -> None:
    with pytest.raises(TypeError, match="has no message"):
        encode(value)


def test_a_message_without_a_class_is_a_bug() -> None:
    with pytest.raises(TypeError, match="Done has no class"):
        decode(pb.Done())


@given(
    session=st.text(max_size=20).filter(lambda text: text.isprintable()),
    round=counts,
    examples=counts,
    metrics=st.dictionaries(st.text(alphabet="abc/é", max_size=5), st.floats(allow_nan=False), max_size=5),
)
def test_any_header_survives_the_wire(
    session: str, round: int, examples: int, metrics: dict[str, float]
) -> None:
    header = replace(HEADER, session=SessionId(session), round=round, examples=examples, metrics=metrics)
    assert _round_trip(m.UpdateOffered(header)) == m.UpdateOffered(header)


@given(st.binary(max_size=200))
def test_stray_bytes_are_decoded_or_refused_but_never_anything_else(raw: bytes) -> None:
    try:
        message = pb.ClientMessage.FromString(raw)
    except DecodeError:
        return
    with suppress(InvalidInput):
        unwrap(message)
