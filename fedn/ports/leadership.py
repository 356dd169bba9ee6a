"""Which reducer is in charge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Lease:
    """Who leads: ``holder``, in this ``term``, for ``left`` seconds more unless it renews."""

    holder: str
    term: int
    left: float


class Leadership(Protocol):
    """Which reducer is in charge of a state store: one at a time, by a lease whose term is its fencing token.

    Time is the store's, or that of the one machine that has it. Raises StoreUnavailable.
    """

    def take(self, holder: str, seconds: float, instead_of: str = "") -> Lease:
        """Lead for ``seconds`` in the next term, unless another leads; returns who does.

        A lease that ``holder`` itself has, and one of ``instead_of``, who is known to be dead, is not
        waited for.
        """

    def renew(self, lease: Lease, seconds: float) -> None:
        """Lead for ``seconds`` from now on, also if the lease had run out and nobody took it.

        Raises StaleTerm if a newer term was taken.
        """

    def give_up(self, lease: Lease) -> None:
        """Let another one lead at once; nothing happens to a lease that is over."""
