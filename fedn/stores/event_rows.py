"""What every state store does with events: their fields as text, and a client that is to be forgotten.

Used by events_memory, events_sqlite and mongo_events.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from fedn.domain.canonical import canonical_json
from fedn.domain.errors import Damaged, InvalidInput
from fedn.domain.ids import ClientId
from fedn.ports import EventRow
from fedn.stores import rules

FORGOTTEN = "(forgotten)"
"""What a sentence says in place of a client that was forgotten."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events are asked for; see `fedn.ports.StateStore.events`."""

    after: int = 0
    limit: int = 1000
    session: str = ""
    round: int | None = None
    names: Collection[str] = ()
    newest: bool = False
    before: int | None = None

    def __contains__(self, row: EventRow) -> bool:
        return (
            self.after < row.number < self.end
            and self.session in ("", row.session)
            and self.round in (None, row.round)
            and (not self.names or row.event in self.names)
        )

    @property
    def end(self) -> int:
        return rules.MAX_INTEGER if self.before is None else rules.clamp(self.before)


def fields_text(fields: Mapping[str, Any]) -> str:
    """An event's fields as they are stored; raise InvalidInput if they are no JSON."""
    try:
        return canonical_json(dict(fields)).decode()
    except (TypeError, ValueError, RecursionError):
        raise InvalidInput("fields", "of an event are not plain JSON", "make them plain first") from None


def read_fields(number: int, text: str) -> Mapping[str, Any]:
    """Stored fields; raise Damaged if they are not such any more."""
    try:
        fields = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise Damaged(f"the stored event {number} can't be read", number=number)
    return fields


Forget: TypeAlias = Callable[[Mapping[str, Any]], Mapping[str, Any] | None]


def forgetting(client: ClientId, name: str) -> Forget:
    """For an event's fields: the same without any trace of a client; None if they are about it."""
    called = {client, name} - {""}
    words = "|".join(map(re.escape, sorted(called, key=len, reverse=True)))
    pattern = re.compile(rf"(?<![\w.-])({words})(?![\w-]|\.\w)")

    def about(value: Any) -> bool:
        return isinstance(value, Mapping) and value.get("client") == client

    def without(value: Any) -> Any:
        if isinstance(value, str):
            return pattern.sub(FORGOTTEN, value)
        if isinstance(value, Mapping):
            return {
                key: without(item) for key, item in value.items() if key not in called and not about(item)
            }
        if isinstance(value, list):
            return [without(item) for item in value if not about(item) and item not in list(called)]
        return value

    return lambda fields: None if about(fields) else without(fields)


def traces(client: ClientId, name: str) -> list[str]:
    """What to look for in `fields_text`; the second is the first where there is no name."""
    return [canonical_json(text).decode()[1:-1] for text in (client, name or client)]
