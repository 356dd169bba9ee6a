"""How often somebody may ask: token buckets, and a bounded table of them. Time is passed in."""

from __future__ import annotations

from collections import OrderedDict


class Rate:
    """A token bucket: ``burst`` at once, then ``per_second`` on average. It starts full."""

    __slots__ = ("_at", "_burst", "_left", "_per_second")

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second = per_second
        self._burst = float(burst)
        self._left = float(burst)
        self._at: float | None = None

    def take(self, now: float, cost: float = 1) -> bool:
        """Take ``cost`` if it is there; otherwise nothing is taken. A clock that goes back adds nothing."""
        self._refill(now)
        if cost > self._left:
            return False
        self._left -= cost
        return True

    def wait(self, now: float, cost: float = 1) -> float:
        """Seconds from ``now`` until ``cost`` can be taken; 0 if it can."""
        self._refill(now)
        lacking = min(cost, self._burst) - self._left
        return max(0.0, lacking / self._per_second)

    def _refill(self, now: float) -> None:
        if self._at is not None and now > self._at:
            self._left = min(self._burst, self._left + (now - self._at) * self._per_second)
        self._at = now if self._at is None else max(now, self._at)


class Rates:
    """One bucket for each of at most ``bound`` names; whoever has not asked for longest is forgotten.

    Not safe from many threads by itself.
    """

    def __init__(self, per_second: float, burst: int, bound: int = 10_000) -> None:
        self._per_second = per_second
        self._burst = burst
        self._bound = bound
        self._rates: OrderedDict[str, Rate] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rates)

    def take(self, name: str, now: float, cost: float = 1) -> bool:
        """As `Rate.take`, of this name's bucket."""
        return self._of(name).take(now, cost)

    def wait(self, name: str, now: float, cost: float = 1) -> float:
        """As `Rate.wait`, of this name's bucket; a name that is not there waits for nothing."""
        rate = self._rates.get(name)
        return rate.wait(now, cost) if rate else 0.0

    def _of(self, name: str) -> Rate:
        rate = self._rates.get(name)
        if rate is None:
            while len(self._rates) >= self._bound:
                self._rates.popitem(last=False)
            rate = self._rates[name] = Rate(self._per_second, self._burst)
        else:
            self._rates.move_to_end(name)
        return rate
