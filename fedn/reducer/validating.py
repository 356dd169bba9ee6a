"""Has clients evaluate a committed model, and gathers what they report. Used by `driver.py`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from fedn.domain import messages as m
from fedn.domain.ids import ClientId
from fedn.domain.round import ValidationSpec
from fedn.domain.update import finite_metrics
from fedn.ports import MetricRow
from fedn.reducer.peers import Peer

log = logging.getLogger("fedn.reducer")

SpecFor = Callable[[tuple[ClientId, ...]], ValidationSpec]


async def gather_metrics(peers: Iterable[Peer], spec_for: SpecFor) -> list[MetricRow]:
    """One row for every client that reported, at whichever combiner it did so first.

    What goes wrong at one combiner costs no other's rows. Cancelled, it asks nobody any more.
    """
    rows: dict[ClientId, MetricRow] = {}
    async with asyncio.TaskGroup() as asked:
        for peer in peers:
            if peer.live:
                asked.create_task(_tried(peer, spec_for(tuple(sorted(peer.station.clients))), rows))
    return list(rows.values())


async def _tried(peer: Peer, spec: ValidationSpec, rows: dict[ClientId, MetricRow]) -> None:
    try:
        await _gather_at(peer, spec, rows)
    except Exception as error:
        where = {"session": spec.session, "round": spec.round, "combiner": peer.name}
        log.warning("a validation failed: %s", error, extra=where)


async def _gather_at(peer: Peer, spec: ValidationSpec, rows: dict[ClientId, MetricRow]) -> None:
    async for event in peer.stream(peer.incarnation, lambda link: link.run_validation(spec)):
        if isinstance(event, m.ModelValidated):
            metrics = finite_metrics(event.metrics)
            row = MetricRow(spec.session, spec.round, "validate", event.client, event.examples, metrics)
            rows.setdefault(event.client, row)
