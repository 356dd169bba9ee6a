"""Domain values as JSON, and JSON from outside as checked values. Used by every REST route."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import PurePath
from typing import Any

from flask import request
from werkzeug.exceptions import BadRequest

from fedn.domain.errors import InvalidInput
from fedn.domain.plan import plan_fields
from fedn.domain.round import StoredRecord
from fedn.ports import SessionInfo

MAX_PAGE = 1000

# --- out -------------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """``value`` as strict JSON: dataclasses become objects, NaN and infinities null, the unknown text."""
    if value is None or isinstance(value, bool | int | str):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, bytes | bytearray | memoryview | PurePath):
        return [plain(item) for item in value]
    return str(value)


def session_form(info: SessionInfo) -> dict[str, Any]:
    """A session with its whole plan and head."""
    return {
        "session": info.session,
        "name": info.name,
        "state": info.state,
        "reason": info.reason,
        "created_at": info.created_at,
        "head": plain(info.head),
        "plan": plain(info.plan.as_dict()),
    }


def round_form(stored: StoredRecord) -> dict[str, Any]:
    """What people want to know of a committed round; `record_form` has all of it."""
    record = stored.record
    return {
        "round": record.round,
        "model": record.model,
        "model_size": record.model_size,
        "base_model": record.base_model,
        "committed_at": record.committed_at,
        "contributors": len(record.contributors),
        "examples": sum(contributor.examples for contributor in record.contributors),
        "combiners": sorted({part.combiner for part in record.parts}),
        "refused": plain(record.refused),
        "lost": plain(record.lost),
        "digest": stored.digest,
    }


def record_form(stored: StoredRecord) -> dict[str, Any]:
    """A record, its digest, and the very text that the digest is taken over."""
    return {"digest": stored.digest, "record": plain(stored.record), "raw": stored.raw.decode("ascii")}


def plan_form() -> list[dict[str, Any]]:
    """Every plan field with its type, default, words and bounds."""
    words = {bool: "boolean", int: "integer", float: "number", str: "text", dict: "object"}
    return [
        {"name": name, "type": words[kind], "default": plain(default)} | plain(metadata)
        for name, kind, default, metadata in plan_fields()
    ]


# --- in --------------------------------------------------------------------------------------------


def json_body(known: Mapping[str, type], required: Iterable[str] = ()) -> dict[str, Any]:
    """The request's JSON object with its names and types checked; raises InvalidInput naming the field."""
    if request.mimetype != "application/json":
        raise InvalidInput("Content-Type", f"is {request.mimetype or 'missing'!r}", "send application/json")
    try:
        body = request.get_json()
    except (BadRequest, RecursionError):
        raise InvalidInput("body", "is not JSON", "send a plain JSON object") from None
    if not isinstance(body, dict):
        raise InvalidInput("body", "is not a JSON object", "send {…}")
    for name, value in body.items():
        if name not in known:
            raise InvalidInput(name[:80], "is not a field of this request", f"known are {', '.join(known)}")
        if known[name] is float and type(value) is int:  # whole numbers are numbers
            continue
        if type(value) is not known[name]:
            raise InvalidInput(name, f"is {_json_word(type(value))}", f"give {_json_word(known[name])}")
    for name in required:
        if name not in body:
            raise InvalidInput(name, "is missing", f"give {_json_word(known[name])}")
    return body


def _json_word(kind: type) -> str:
    words = {bool: "a boolean", int: "a whole number", float: "a number", str: "a text", dict: "an object"}
    return words.get(kind, "a list" if kind is list else "null")


def query_number(name: str, default: int, low: int = -1, high: int = 2**53) -> int:
    """A whole number from the query string; raises InvalidInput naming it."""
    text = request.args.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"-?[0-9]{1,20}", text):
        raise InvalidInput(name, f"{text[:80]!r} is not a whole number", "give a whole number")
    value = int(text)
    if not low <= value <= high:
        raise InvalidInput(name, f"{value} is out of bounds", f"give {low} to {high}")
    return value


def query_choice(name: str, choices: Sequence[str]) -> str:
    """One of ``choices`` from the query string, '' if it is not there; raises InvalidInput naming it."""
    text = request.args.get(name, "")
    if text and text not in choices:
        raise InvalidInput(name, f"{text[:80]!r} is unknown", f"give one of {', '.join(choices)}")
    return text
