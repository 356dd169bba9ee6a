"""Lists too long for one page: a part of them, and the links to the parts beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import urlencode

from flask import request

from fedn.reducer.rest_forms import query_number

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Paged(Generic[T]):
    """One part of ``total`` items; ``before`` and ``after`` are addresses on this page, '' at an end."""

    items: Sequence[T]
    total: int
    here: int
    pages: int
    before: str
    after: str


def paged(found: Sequence[T], size: int, name: str) -> Paged[T]:
    """The part of ``found`` that the query parameter ``name`` asks for; the first is 1."""
    pages = max(1, -(-len(found) // size))
    here = min(query_number(name, 1, low=1), pages)
    return Paged(
        found[(here - 1) * size : here * size],
        len(found),
        here,
        pages,
        _address(name, here - 1) if here > 1 else "",
        _address(name, here + 1) if here < pages else "",
    )


def _address(name: str, page: int) -> str:
    return "?" + urlencode(request.args.to_dict() | {name: str(page)})
