"""Where a model comes from, in words and links; pages about models say it alike."""

from __future__ import annotations

from dataclasses import dataclass

from flask import url_for

from fedn.domain.ids import Digest, SessionId
from fedn.ports import StateStore
from fedn.reducer.lineage import Lineage, lineage_of

SEEDS = 1000
"""Seed models whose names are known here."""


@dataclass(frozen=True, slots=True)
class Origin:
    """``words`` such as 'seed model digits' or 'round 12 of trial'; '' where nothing is known of it."""

    words: str
    session: SessionId | None = None
    round: int = 0


def origin_in(lineage: Lineage) -> Origin:
    """What made a model: its newest round, or the person who uploaded it."""
    if lineage.made:
        made = lineage.made[0]
        return Origin(f"round {made.round:,} of {made.name or made.session}", made.session, made.round)
    return Origin(f"seed model {lineage.name}" if lineage.name else "")


def origin_of(state: StateStore, model: Digest) -> Origin:
    """The same of any model; those of rounds are searched for."""
    return origin_in(lineage_of(state, model))


def seed_name(state: StateStore, model: Digest) -> str:
    """What a seed model is called, '' for other models."""
    return next((info.name for info in state.models(SEEDS) if info.digest == model), "")


def trail_at(session: SessionId, round: int, head: int, shown: int) -> str:
    """The address of a round in its session's trail, on the page that it is on."""
    until = "" if round > head - shown else f"?until={round}"
    return url_for("page.trail.show", session=session) + f"{until}#round-{round}"
