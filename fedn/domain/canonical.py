"""Canonical JSON: the one byte form that hashes are taken over."""

from __future__ import annotations

import json


def canonical_json(value: object) -> bytes:
    """``value`` as ASCII JSON with sorted keys and no spaces; NaN and infinities raise ValueError."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode()
