"""Small curves as points of SVG polylines; what is larger plotly draws in the browser."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

CURVE = (240, 48)
"""Width and height of a sparkline's viewBox."""


def sparkline(values: Sequence[float]) -> str:
    """Points of a polyline through ``values``, scaled to `CURVE`; '' for fewer than two, or too far apart."""
    if len(values) < 2:
        return ""
    (width, height), low, high = CURVE, min(values), max(values)
    scale = (high - low) or 1.0
    if not isfinite(scale):
        return ""
    points = enumerate(values)
    return " ".join(
        f"{x * width / (len(values) - 1):.1f},{height - (y - low) / scale * height:.1f}" for x, y in points
    )
