"""Every message of the wire, spoilt or full of odd values: a value or InvalidInput, and nothing stays."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from random import Random
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from hostile import RUNS, SEED, fuzzed, inputs, no_growth
from hypothesis import given
from hypothesis import strategies as st

from fedn.domain.errors import InvalidInput
from fedn.wire import codec
from fedn.wire.calls import parsed, reader
from fedn.wire.pb import fedn_pb2 as pb

ENVELOPES = {"ClientMessage", "CombinerMessage", "CombinerEvent", "RoundEvent", "ValidationEvent"}
BARE = {"Chunk", "Done"}
"""No class of the domain: one is framed by hand, the other says nothing."""
MESSAGES = sorted(set(pb.DESCRIPTOR.message_types_by_name) - BARE)

F = FieldDescriptor
ODD: dict[int, tuple[Any, ...]] = {
    F.TYPE_STRING: ("", "a", "s-1", "0" * 64, "train", "validate", "é\U0001f600", "\0", "../../etc/passwd",
                    "x" * 3000, "\u202e\n"),
    F.TYPE_BYTES: (b"", b"\0", b"x" * 3000),
    F.TYPE_DOUBLE: (0.0, -0.0, 1.5, math.nan, math.inf, -math.inf, 1e308, 5e-324),
    F.TYPE_UINT64: (0, 1, 2, 2**31, 2**53 + 1, 2**63, 2**64 - 1),
    F.TYPE_UINT32: (0, 1, 2, 2**31, 2**32 - 1),
    F.TYPE_BOOL: (True, False),
}  # fmt: skip


def full(random: Random, kind: Descriptor, sparse: bool = True) -> Message:
    """A message with an odd value in most fields; of an envelope, one kind."""
    message = getattr(pb, kind.name)()
    fields = [random.choice(kind.fields)] if kind.oneofs else kind.fields
    for field in fields:
        if not sparse or random.random() < 0.9:
            fill(random, message, field, sparse)
    return message


def fill(random: Random, message: Message, field: FieldDescriptor, sparse: bool) -> None:
    target = getattr(message, field.name)
    if field.message_type and field.message_type.GetOptions().map_entry:
        for _ in range(random.choice((0, 1, 3, 70))):
            target[str(random.random())[: random.choice((1, 5, 20))]] = random.choice(ODD[F.TYPE_DOUBLE])
    elif field.message_type and field.is_repeated:
        target.extend(full(random, field.message_type, sparse) for _ in range(random.choice((0, 1, 2, 40))))
    elif field.message_type:
        target.CopyFrom(full(random, field.message_type, sparse))
    elif field.is_repeated:
        target.extend(random.choice(ODD[field.type]) for _ in range(random.choice((0, 1, 2, 40))))
    else:
        setattr(message, field.name, random.choice(ODD[field.type]))


def examples(name: str, count: int = 20) -> list[bytes]:
    """Some that are full, and at least as many that can be read."""
    random = Random(SEED)
    kind = pb.DESCRIPTOR.message_types_by_name[name]
    made = (full(random, kind, sparse=False).SerializeToString() for _ in range(100 * count))
    return [*islice(made, count), *islice((raw for raw in made if read(name, raw) is not None), count)]


def read(name: str, raw: bytes) -> Any:
    """What the wire makes of a message, and back: what can be read can be written, and means the same."""
    kind: type[Message] = getattr(pb, name)
    try:
        value = parsed(reader(kind, envelope=name in ENVELOPES), raw)
    except InvalidInput as error:
        assert len(error.message) < 5000  # noqa: PT017
        return None
    except BaseException as fault:
        fault.add_note(f"The {name} was {raw!r}")
        raise
    if value is not None:
        again = write(name, value)
        assert write(name, parsed(reader(kind, envelope=name in ENVELOPES), again)) == again
    return value


def write(name: str, value: Any) -> bytes:
    """In one order, so that it can be compared; NaN is not equal to itself."""
    written = codec.wrap(getattr(pb, name), value) if name in ENVELOPES else codec.encode(value)
    return bytes(written.SerializeToString(deterministic=True))


@pytest.mark.parametrize("name", MESSAGES)
def test_spoilt_messages(name: str, tally: Callable[[int], None]) -> None:
    good = examples(name)
    for raw in inputs(good, RUNS, SEED + 1000):  # until caches and free lists are full
        read(name, raw)
    tried = list(inputs(good, RUNS))
    with no_growth(256 * 2**10):
        taken = sum(read(name, raw) is not None for raw in tried)
    assert taken > 0, "none was taken: then this tries nothing"
    tally(2 * len(tried))


def test_odd_values(tally: Callable[[int], None]) -> None:
    random = Random(SEED)
    taken = 0
    for number in range(RUNS * 2):
        name = random.choice(MESSAGES)
        message = full(random, pb.DESCRIPTOR.message_types_by_name[name], sparse=bool(number % 2))
        taken += read(name, message.SerializeToString()) is not None
    assert taken > RUNS / 4
    tally(RUNS * 2)


@fuzzed
@given(st.sampled_from([*MESSAGES, "Chunk", "Done"]), st.binary(max_size=200))
def test_noise_as_messages(tally: Callable[[int], None], name: str, raw: bytes) -> None:
    if name in BARE:
        with suppress(DecodeError):
            getattr(pb, name).FromString(raw)
    else:
        read(name, raw)
    tally(1)
