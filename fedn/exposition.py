"""Metrics as Prometheus scrapes them: what the tiers have in common, and the text itself.

Each tier collects when it is asked (`fedn.reducer.prometheus`, `fedn.combiner.prometheus`), so that nothing
is counted for nobody. Every registry is its process's own; the library's global one stays empty of ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

import fedn
from fedn.domain.ids import PROTOCOL_VERSION
from fedn.domain.messages import Gauge


def new_registry(collector: Collector) -> CollectorRegistry:
    """With ``collector``, and what the system knows of this process."""
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    registry.register(collector)
    return registry


def written(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """All metrics of now, in the format that an Accept header asks for, and its media type."""
    try:
        encode, media = choose_encoder(accept)
    except (ValueError, TypeError):  # a version that is no number
        encode, media = choose_encoder("")
    return encode(registry), media


def build() -> Metric:
    """Which fedn this is."""
    known = {"version": fedn.__version__, "protocol": str(PROTOCOL_VERSION)}
    return InfoMetricFamily("fedn_build", "Version of fedn and of its protocol.", value=known)


def number(name: str, words: str, value: float) -> Metric:
    """A gauge without labels."""
    return GaugeMetricFamily(name, words, value=value)


def total(name: str, words: str, value: float) -> Metric:
    """A counter without labels; its name ends in _total."""
    return CounterMetricFamily(name, words, value=value)


def levels(gauges: Iterable[Gauge]) -> Iterator[Metric]:
    """Everything bounded: what there is now, may be, and ever was (see `fedn.domain.gauges`)."""
    now = GaugeMetricFamily("fedn_gauge", "What there is of something bounded.", labels=["gauge"])
    limit = GaugeMetricFamily("fedn_gauge_limit", "The most that there may be.", labels=["gauge"])
    peak = GaugeMetricFamily("fedn_gauge_peak", "The most since this process started.", labels=["gauge"])
    for gauge in gauges:
        now.add_metric([gauge.name], gauge.value)
        limit.add_metric([gauge.name], gauge.limit)
        peak.add_metric([gauge.name], gauge.peak)
    yield from (now, limit, peak)
