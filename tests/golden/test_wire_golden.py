"""The bytes of every message, pinned: a neighbour of another version reads exactly these.

A deliberate change of the wire is written down with ``make golden``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from fedn.domain import messages, part, update
from fedn.domain import round as rounds
from fedn.wire import codec
from fedn.wire.pb import fedn_pb2 as pb

GOLDEN = Path(__file__).with_name("wire.json")
ENVELOPES = {
    "ClientMessage": messages.ClientMessage,
    "CombinerMessage": messages.CombinerMessage,
    "CombinerEvent": messages.CombinerEvent,
    "RoundEvent": messages.RoundEvent,
    "ValidationEvent": messages.ValidationEvent,
}
WITHOUT_CLASS = {"Chunk", "Done"}
NOT_ON_THIS_WIRE = {"Registration", "Assignment", "MergedPart", "RoundRecord", "StoredRecord", "Head"}


def _classes() -> dict[str, type]:
    """Every dataclass of the modules that the wire speaks of."""
    return {
        name: cls
        for module in (messages, rounds, part, update)
        for name, cls in vars(module).items()
        if isinstance(cls, type) and is_dataclass(cls) and cls.__module__ == module.__name__
    }


ON_THE_WIRE = {name: cls for name, cls in _classes().items() if name not in NOT_ON_THIS_WIRE}


def _example(cls: type) -> Any:
    """A value with something different in every field."""
    hints = get_type_hints(cls)
    return cls(*(_content(hints[f.name], f.name, index) for index, f in enumerate(fields(cls), start=1)))


def _content(hint: Any, name: str, index: int) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is tuple:
        return (_content(arguments[0], name, index), _content(arguments[0], name, index + 200))
    if origin is Mapping:
        return {"loss": index + 0.25, "précision": -0.0}
    kind = getattr(hint, "__supertype__", hint)
    if is_dataclass(kind):
        return _example(kind)
    if issubclass(kind, StrEnum):
        return list(kind)[-1]
    plain = {
        str: f"{name}-{index}",
        int: 2**33 + index,
        float: index / 3,
        bool: True,
        bytes: bytes((index, 0, 255)),
    }
    return index if name == "protocol" else plain[kind]


def _bytes_by_name() -> dict[str, bytes]:
    plain = {name: codec.encode(_example(cls)) for name, cls in ON_THE_WIRE.items()}
    wrapped = {
        f"{envelope}.{cls.__name__}": codec.wrap(getattr(pb, envelope), _example(cls))
        for envelope, union in ENVELOPES.items()
        for cls in get_args(union)
    }
    return {
        name: message.SerializeToString(deterministic=True)
        for name, message in sorted((plain | wrapped).items())
    }


def _golden() -> dict[str, str]:
    return json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("name", sorted(_bytes_by_name()))
def test_these_very_bytes_are_written(name: str) -> None:
    assert _bytes_by_name()[name].hex() == _golden()[name]


@pytest.mark.parametrize("name", sorted(_golden() if GOLDEN.exists() else ()))
def test_these_very_bytes_are_read(name: str) -> None:
    envelope, _, inner = name.rpartition(".")
    message = getattr(pb, envelope or inner).FromString(bytes.fromhex(_golden()[name]))
    value = codec.unwrap(message) if envelope else codec.decode(message)
    assert value == _example(ON_THE_WIRE[inner])


def test_every_class_has_its_message_with_the_same_fields_in_the_same_order() -> None:
    for name, cls in ON_THE_WIRE.items():
        assert [f.name for f in fields(cls)] == [f.name for f in getattr(pb, name).DESCRIPTOR.fields], name


def test_every_message_has_its_class() -> None:
    assert set(pb.DESCRIPTOR.message_types_by_name) == set(ON_THE_WIRE) | set(ENVELOPES) | WITHOUT_CLASS


@pytest.mark.parametrize("envelope", ENVELOPES)
def test_an_envelope_holds_exactly_its_union(envelope: str) -> None:
    held = [f.message_type.name for f in getattr(pb, envelope).DESCRIPTOR.oneofs_by_name["message"].fields]
    assert held == [cls.__name__ for cls in get_args(ENVELOPES[envelope])]


if __name__ == "__main__":
    text = json.dumps({name: raw.hex() for name, raw in _bytes_by_name().items()}, indent=1)
    GOLDEN.write_text(text + "\n")
    print(f"wrote {GOLDEN}")
