"""Between the frozen values of ``fedn.domain`` and the protobuf messages of the same name.

Fields are mapped by name. What to do with each is worked out once per class from its annotations,
so that a message of a running round costs a few microseconds. ``service.py`` and ``links.py`` of the
tiers call this at the edge; nothing inside a tier sees a protobuf message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import StrEnum
from types import ModuleType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints, overload

from google.protobuf.message import Message

from fedn.domain import messages as m
from fedn.domain import part, update
from fedn.domain import round as rounds
from fedn.domain.errors import InvalidInput
from fedn.wire.pb import fedn_pb2 as pb

Envelope = TypeVar("Envelope", bound=Message)
Convert = Callable[[Any], Any]

_DOMAIN: tuple[ModuleType, ...] = (m, rounds, part, update)
_ONEOF = "message"


@dataclass(frozen=True, slots=True)
class _Field:
    """One field's two conversions; None means that the value passes as it is."""

    name: str
    to_wire: Convert | None
    from_wire: Convert | None
    nested: bool = False
    otherwise: Any = None
    """What stands for a nested message that an older version does not send; None if it must be there."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """How one domain class meets its message."""

    cls: Callable[..., Any]
    message: Callable[..., Message]
    oneof: str
    fields: tuple[_Field, ...]


def encode(value: Any) -> Any:
    """The protobuf message of a domain value.

    Raises:
        InvalidInput: naming a field that does not fit the wire (a negative count, a wrong type).
    """
    plan = _PLANS[type(value)]
    values = _to_wire(plan, value)
    try:
        return plan.message(**values)
    except (TypeError, ValueError, OverflowError):
        _blame(plan, value)
        raise


def decode(message: Message) -> Any:
    """The domain value of a protobuf message.

    Raises:
        InvalidInput: naming a field that is missing or has a value this version does not know.
    """
    return _from_wire(_PLANS[type(message)], message)


def wrap(envelope: type[Envelope], value: Any) -> Envelope:
    """``value`` inside the oneof of ``envelope``, such as ``pb.ClientMessage``.

    Raises:
        InvalidInput: as `encode` does.
    """
    plan = _PLANS[type(value)]
    try:
        return envelope(**{plan.oneof: _to_wire(plan, value)})
    except (TypeError, ValueError, OverflowError):
        _blame(plan, value)
        raise


@overload
def unwrap(envelope: pb.ClientMessage) -> m.ClientMessage: ...
@overload
def unwrap(envelope: pb.CombinerMessage) -> m.CombinerMessage: ...
@overload
def unwrap(envelope: pb.CombinerEvent) -> m.CombinerEvent: ...
@overload
def unwrap(envelope: pb.RoundEvent) -> m.RoundEvent: ...
@overload
def unwrap(envelope: pb.ValidationEvent) -> m.ValidationEvent: ...
def unwrap(envelope: Any) -> Any:
    """The domain value inside an envelope.

    Raises:
        InvalidInput: when it is empty, or holds a message that this version does not know.
    """
    name = envelope.WhichOneof(_ONEOF)
    if name is None:
        kind = type(envelope).__name__
        raise InvalidInput(_ONEOF, f"this {kind} is empty or of an unknown kind", "compare the versions")
    return decode(getattr(envelope, name))


def _to_wire(plan: _Plan, value: Any) -> dict[str, Any]:
    """Keyword arguments of the message; nested values become dicts, which protobuf takes uncopied."""
    return {
        f.name: getattr(value, f.name) if f.to_wire is None else f.to_wire(getattr(value, f.name))
        for f in plan.fields
    }


def _from_wire(plan: _Plan, message: Message) -> Any:
    values = []
    for f in plan.fields:
        if f.nested and not message.HasField(f.name):
            if f.otherwise is None:
                raise InvalidInput(f.name, "missing", "send the whole message")
            values.append(f.otherwise)
            continue
        value = getattr(message, f.name)
        values.append(value if f.from_wire is None else f.from_wire(value))
    return plan.cls(*values)


def _blame(plan: _Plan, value: Any, prefix: str = "") -> None:
    """Find the field that protobuf refused. Off the hot path: each is tried alone."""
    for f, (name, content) in zip(plan.fields, _to_wire(plan, value).items(), strict=True):
        try:
            plan.message(**{name: content})
        except (TypeError, ValueError, OverflowError) as error:
            if f.nested:
                inner = getattr(value, name)
                _blame(_PLANS[type(inner)], inner, f"{prefix}{name}.")
            raise InvalidInput(prefix + name, f"{content!r:.80} does not fit: {error}") from None


class _Plans(dict[type, _Plan]):
    """Plans by domain class and by message class, each made when it is first asked for."""

    def __missing__(self, kind: type) -> _Plan:
        plan = self[kind] = _plan_of_message(kind) if issubclass(kind, Message) else _plan_of_class(kind)
        return plan


_PLANS = _Plans()


def _plan_of_class(cls: type) -> _Plan:
    message = getattr(pb, cls.__name__, None)
    if message is None or not is_dataclass(cls):
        raise TypeError(f"{cls.__name__} has no message in fedn.proto")
    hints = get_type_hints(cls)

    def default(field: Any) -> Any:
        return None if field.default is MISSING else field.default

    return _Plan(
        cls, message, _snake_case(cls.__name__),
        tuple(_field(f.name, hints[f.name], default(f)) for f in fields(cls)),
    )  # fmt: skip


def _plan_of_message(message: type[Message]) -> _Plan:
    name = message.DESCRIPTOR.name
    for module in _DOMAIN:
        cls = getattr(module, name, None)
        if isinstance(cls, type) and is_dataclass(cls):
            return _PLANS[cls]
    raise TypeError(f"{name} has no class in fedn.domain")


def _field(name: str, hint: Any, otherwise: Any = None) -> _Field:
    if isinstance(hint, type) and is_dataclass(hint):
        inner = _PLANS[hint]
        return _Field(
            name, lambda value: _to_wire(inner, value), lambda raw: _from_wire(inner, raw), True, otherwise
        )
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return _Field(name, None, _enum_reader(name, hint))
    if get_origin(hint) is tuple:
        return _repeated(name, get_args(hint)[0])
    if get_origin(hint) is Mapping:
        return _Field(name, None, dict)
    return _Field(name, None, None)


def _repeated(name: str, item: Any) -> _Field:
    if not (isinstance(item, type) and is_dataclass(item)):
        return _Field(name, None, tuple)
    inner = _PLANS[item]
    return _Field(
        name,
        lambda values: [_to_wire(inner, value) for value in values],
        lambda raws: tuple([_from_wire(inner, raw) for raw in raws]),
    )


def _enum_reader(name: str, kind: type[StrEnum]) -> Convert:
    known = {member.value: member for member in kind}

    def read(raw: str) -> StrEnum:
        try:
            return known[raw]
        except KeyError:
            raise InvalidInput(name, f"{raw[:80]!r} is unknown", f"use one of {', '.join(known)}") from None

    return read


def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
