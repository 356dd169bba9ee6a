"""The bounds of a combiner; `app.py` fills them from the settings."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Every bound of a combiner. Seconds and bytes."""

    uploads_in_flight: int = 4
    max_update_bytes: int = 4 * 2**30
    max_clients: int = 10_000
    max_parked: int = 10_000
    max_parts: int = 256
    client_grace: float = 3.0
    upload_idle: float = 30.0
    beat: float = 2.0
