"""GET /metrics of the reducer: what Prometheus scrapes.

What the stores and the Front say is read when it is asked for; only requests are counted as they come.
No machine is looked into. `fedn.exposition` writes the text.
"""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, cast

from flask import Blueprint, Flask, Response, g, request, request_finished, request_started
from flask.blueprints import BlueprintSetupState
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from fedn.domain.errors import NotFound, StoreUnavailable
from fedn.exposition import build, levels, new_registry, number, written
from fedn.ports import SessionInfo
from fedn.reducer.books import PAUSED, RUNNING
from fedn.reducer.front import Front
from fedn.reducer.network import NetworkView
from fedn.reducer.timing import COMMITTED, VALIDATED

NEWEST = 5
"""So many sessions are told of when they are over; a session is a label, and labels are never forgotten."""
STATES = (RUNNING, PAUSED, "finished", "failed", "cancelled")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

OPEN_ROUND = (
    ("fedn_session_round", "Number of the open round.", "round"),
    ("fedn_session_updates_expected", "Clients that the open round lists.", "expected"),
    ("fedn_session_updates_received", "Updates that the open round has.", "received"),
    ("fedn_session_clients_refused", "Clients it refused, or whose training failed.", "refused"),
    ("fedn_session_clients_lost", "Clients that the open round has lost.", "lost"),
)
"""Name, words, and what it is called in a session's progress; people by name are counted."""


def metrics_routes(front: Front) -> Blueprint:
    """/metrics; once registered, all requests of the application are counted, too."""
    routes = Blueprint("metrics", __name__)
    registry = new_registry(Reducer(front))
    requests = Requests(registry)

    @routes.get("/metrics")
    def metrics() -> Response:
        """All metrics of now."""
        text, media = written(registry, request.headers.get("Accept", ""))
        return Response(text, content_type=media)

    @routes.record_once
    def count(state: BlueprintSetupState) -> None:
        requests.count_all(cast(Flask, state.app))

    return routes


class Requests:
    """How many requests there were of each route, how they ended, and how long until their answers began."""

    def __init__(self, registry: CollectorRegistry) -> None:
        asked = ("method", "route")
        self._total = Counter(
            "fedn_http_requests", "Requests answered.", (*asked, "status"), registry=registry
        )
        self._seconds = Histogram(
            "fedn_http_request_duration_seconds", "Until an answer began.", asked,
            registry=registry, buckets=BUCKETS,
        )  # fmt: skip

    def count_all(self, app: Flask) -> None:
        """By Flask's signals, which come whoever answers: a handler, the gate or an error."""
        request_started.connect(self._began, app, weak=False)
        request_finished.connect(self._answered, app, weak=False)

    def _began(self, _: Flask, **__: object) -> None:
        g.began = time.perf_counter()

    def _answered(self, _: Flask, response: Response, **__: object) -> None:
        method = request.method if request.method in METHODS else "other"
        route = (
            request.url_rule.rule if request.url_rule else "none"
        )  # never the path, which anybody makes up
        self._total.labels(method, route, str(response.status_code)).inc()
        self._seconds.labels(method, route).observe(time.perf_counter() - g.began)


class Reducer(Collector):
    """What the stores and the Front say. Thread-safe, as they are."""

    def __init__(self, front: Front) -> None:
        self._front = front

    def collect(self) -> Iterator[Metric]:
        network = self._front.network()
        yield build()
        yield number("fedn_reducer_term", "The term that this reducer leads in.", network.term)
        yield number("fedn_reducer_ready", "Whether it does its work.", not self._front.ready())
        yield from _members(network)
        yield from levels(network.gauges)
        try:
            sessions = self._front.state.sessions()
        except StoreUnavailable:
            sessions = None
        yield number("fedn_state_store_up", "Whether the state store answers.", sessions is not None)
        yield from self._sessions(sessions or ())

    def _sessions(self, sessions: Iterable[SessionInfo]) -> Iterator[Metric]:
        """Newest first."""
        all_of = list(sessions)
        states = Tally(info.state for info in all_of)
        by_state = GaugeMetricFamily("fedn_sessions", "Sessions by state.", labels=["state"])
        for state in sorted({*STATES, *states}):
            by_state.add_metric([state], states[state])
        yield by_state
        told = [info for at, info in enumerate(all_of) if at < NEWEST or info.state in (RUNNING, PAUSED)]
        yield _committed(told)
        yield from _rounds({info.session: self._progress(info) for info in told})
        yield self._phases({str(info.session) for info in told})

    def _progress(self, info: SessionInfo) -> Mapping[str, Any]:
        with suppress(NotFound):
            return self._front.round_progress(info.session)
        return {}

    def _phases(self, sessions: set[str]) -> Metric:
        """Of the newest rounds that were committed, and validated, while this reducer ran."""
        family = GaugeMetricFamily(
            "fedn_session_last_round_seconds", "What the last round took, by phase.",
            labels=["session", "phase"],
        )  # fmt: skip
        last: dict[tuple[str, str], float] = {}
        for event in self._front.hub.recent():
            if event.event in (COMMITTED, VALIDATED) and event.session in sessions:
                seconds = event.fields.get("seconds", {})
                last |= {(event.session, phase): value for phase, value in seconds.items()}
        for labels, value in last.items():
            family.add_metric(labels, value)
        return family


def _members(network: NetworkView) -> Iterator[Metric]:
    live = [combiner for combiner in network.combiners if combiner.live]
    combiners = GaugeMetricFamily("fedn_combiners", "Combiners by whether they are there.", labels=["state"])
    combiners.add_metric(["live"], len(live))
    combiners.add_metric(["gone"], len(network.combiners) - len(live))
    yield combiners
    clients = GaugeMetricFamily(
        "fedn_clients", "Clients attached to each live combiner.", labels=["combiner"]
    )
    for combiner in live:
        clients.add_metric([combiner.combiner], len(combiner.clients))
    yield clients


def _committed(sessions: Iterable[SessionInfo]) -> Metric:
    family = CounterMetricFamily(
        "fedn_session_rounds_committed", "Rounds that a session has committed.", labels=["session"]
    )
    for info in sessions:
        family.add_metric([info.session], info.head.round)
    return family


def _rounds(progress: Mapping[str, Mapping[str, Any]]) -> Iterator[Metric]:
    """Of the open round of each session, if it has one."""
    shown = {session: found for session, found in progress.items() if "round" in found}
    for name, words, key in OPEN_ROUND:
        family = GaugeMetricFamily(name, words, labels=["session"])
        for session, found in shown.items():
            value = found[key]
            family.add_metric([session], value if isinstance(value, int) else len(value))
        yield family
