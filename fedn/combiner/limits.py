"""The bounds of a combiner; `app.py` fills them from the settings."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Every bound of a combiner. Seconds and bytes. What is counted has a gauge (`gauges.py`)."""

    max_clients: int = 10_000
    handshakes: int = 1024
    handshakes_each: int = 4
    hello_within: float = 10.0
    outbox: int = 256
    uploads_in_flight: int = 4
    uploads_waiting: int = 256
    fetches_in_flight: int = 16
    fetches_waiting: int = 10_000
    calls_each: int = 8
    """Uploads, and fetches, that one client may ask for at once; half of the former's places, a quarter of
    the latter's, are the most that it gets."""
    messages_per_second: float = 100.0
    messages_burst: int = 1000
    max_parked: int = 10_000
    parked_each: int = 8
    max_parts: int = 256
    max_validations: int = 512
    max_update_bytes: int = 4 * 2**30
    client_grace: float = 3.0
    upload_idle: float = 30.0
    beat: float = 2.0
