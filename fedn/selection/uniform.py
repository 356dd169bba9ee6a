"""Every client is equally likely; called by the reducer when it lays out a round."""

from __future__ import annotations

from collections.abc import Sequence

from fedn.domain.ids import ClientId, derived_seed


class Uniform:
    """Implements `fedn.ports.ClientSelector`: a draw without replacement, fixed by the seed.

    Each client draws a number from (seed, its own id) and the lowest take part. So the order in which
    clients are given does not matter, and one more client changes at most one place.
    """

    def select(self, clients: Sequence[ClientId], limit: int, seed: int) -> Sequence[ClientId]:
        """At most ``limit`` of ``clients`` (all if 0), sorted by name."""
        distinct = sorted(set(clients))
        if limit == 0 or len(distinct) <= limit:
            return distinct
        drawn = sorted(distinct, key=lambda client: derived_seed(seed, "select", client))
        return sorted(drawn[:limit])
