"""From seconds per round to medians, quartiles and ratios, and those in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any

MB = 1e6


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    middle: float
    low: float
    high: float

    def scaled(self, factor: float) -> Spread:
        return Spread(self.middle * factor, self.low * factor, self.high * factor)

    def __str__(self) -> str:
        return f"{short(self.middle)} ({short(self.low)}–{short(self.high)})"

    def as_dict(self) -> dict[str, float]:
        return {"median": self.middle, "q1": self.low, "q3": self.high}


def spread(values: Sequence[float]) -> Spread:
    low, _, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else (values[0],) * 3
    return Spread(median(values), low, high)


def short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


@dataclass
class Series:
    """What was seen of one system: seconds of every round by repetition, processor seconds per round of each
    repetition, and peaks over idle in bytes."""

    repetitions: list[list[float]] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    middle_peak: int = 0
    top_peak: int = 0

    @property
    def rate(self) -> Spread:
        """Rounds per second, over all rounds."""
        return spread([1 / seconds for repetition in self.repetitions for seconds in repetition])

    def against(self, floor: Series) -> Spread:
        """Our speed in floors': the ratio of medians of each repetition, so that drift hits both."""
        pairs = zip(self.repetitions, floor.repetitions, strict=True)
        return spread([median(theirs) / median(ours) for ours, theirs in pairs])


@dataclass
class Comparison:
    """Ours and the floors doing the same work."""

    title: str
    clients: int
    model_bytes: int
    series: Mapping[str, Series]

    @property
    def bytes_per_round(self) -> float:
        return self.clients * self.model_bytes / MB

    def as_dict(self) -> dict[str, Any]:
        ours = self.series["ours"]
        return {"clients": self.clients, "model_bytes": self.model_bytes} | {
            name: {
                "rounds_per_second": one.rate.as_dict(),
                "mb_per_second": one.rate.scaled(self.bytes_per_round).as_dict(),
                "processor_seconds_per_round": median(one.processor),
                "middle_peak_models": one.middle_peak / self.model_bytes,
                "top_peak_models": one.top_peak / self.model_bytes,
                "rounds_measured": sum(map(len, one.repetitions)),
                "ours_in_it": ours.against(one).as_dict(),
            }
            for name, one in self.series.items()
        }

    def lines(self) -> list[str]:
        """A table of speed and memory."""
        large = self.model_bytes >= MB
        head = f"  {'':8} {'MB/s ingested' if large else 'rounds/s':24} {'ours : this':22} {'CPU s/round':12}"
        rows = [self._row(name, one, large) for name, one in self.series.items()]
        return [self.title, head + (" peak over idle, in models: combiner, reducer" if large else ""), *rows]

    def _row(self, name: str, one: Series, large: bool) -> str:
        rate = one.rate.scaled(self.bytes_per_round if large else 1.0)
        ratio = "" if name == "ours" else str(self.series["ours"].against(one))
        row = f"  {name:8} {rate!s:24} {ratio:22} {median(one.processor):<12.3g}"
        if large:
            row += f" {one.middle_peak / self.model_bytes:.1f}, {one.top_peak / self.model_bytes:.1f}"
        return row.rstrip()
