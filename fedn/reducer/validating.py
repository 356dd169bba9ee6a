"""Has clients evaluate a committed model, and gathers what they report. Used by `driver.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from fedn.domain import messages as m
from fedn.domain.ids import ClientId
from fedn.domain.round import ValidationSpec
from fedn.domain.update import finite_metrics
from fedn.ports import MetricRow
from fedn.reducer.peers import Peer

SpecFor = Callable[[tuple[ClientId, ...]], ValidationSpec]


async def gather_metrics(peers: Iterable[Peer], spec_for: SpecFor) -> list[MetricRow]:
    """One row for every client that reported, at whichever combiner it did so first."""
    rows: dict[ClientId, MetricRow] = {}
    await asyncio.gather(*(_gather_at(peer, spec_for, rows) for peer in peers if peer.live))
    return list(rows.values())


async def _gather_at(peer: Peer, spec_for: SpecFor, rows: dict[ClientId, MetricRow]) -> None:
    spec = spec_for(tuple(sorted(peer.station.clients)))
    async for event in peer.stream(peer.incarnation, lambda link: link.run_validation(spec)):
        if isinstance(event, m.ModelValidated):
            metrics = finite_metrics(event.metrics)
            row = MetricRow(spec.session, spec.round, "validate", event.client, event.examples, metrics)
            rows.setdefault(event.client, row)
