"""Clients that share a folder take a numbered place each: what stands for that number in names and paths."""

from __future__ import annotations

SLOT = "{slot}"


def numbered(text: str, slot: int) -> str:
    """``text`` with the number of the place that a client took; without a number as it is."""
    return text.replace(SLOT, str(slot)) if slot else text
