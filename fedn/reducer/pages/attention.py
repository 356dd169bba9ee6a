"""What somebody should look at, in words: combiners, sessions, clients, gauges, certificates.

The overview shows it. Everything comes from the Front and the stores; nothing here decides anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import url_for

from fedn.config import ReducerSettings
from fedn.domain.errors import FednError
from fedn.domain.ids import ClientId, CombinerName
from fedn.domain.messages import Gauge
from fedn.identity.certificates import load_certificate
from fedn.identity.credentials import CERTIFICATE
from fedn.identity.network_dir import CA, REDUCER
from fedn.identity.secret_files import read_small
from fedn.ports import SessionInfo
from fedn.reducer.network import CombinerView, NetworkView
from fedn.reducer.network_forms import about_combiner, places_of
from fedn.reducer.pages.frame import ago, counted, duration, moment
from fedn.reducer.pages.places import place
from fedn.reducer.why_words import because

FORGOTTEN_SECONDS = 7 * 86_400.0
"""A combiner that was away so long is no news any more; the network's page still shows it."""
NEAR = 0.8
"""The part of a gauge's limit from which on it is told."""
DAY = 86_400.0
SOON_HTTPS, SOON_AUTHORITY = 14 * DAY, 60 * DAY
"""Certificates that somebody has to see to are told so long before they expire."""
LEFT = 0.25
"""The reducer's own is renewed halfway: with so little of its life left, that has failed."""


@dataclass(frozen=True, slots=True)
class Concern:
    """``title`` in a few words, ``text`` in a sentence or two, and what can be done. Links: word, address."""

    title: str
    text: str
    remedy: str = ""
    grave: bool = False
    links: tuple[tuple[str, str], ...] = ()


def of_network(network: NetworkView, now: float) -> Iterator[Concern]:
    """Combiners that are out of reach, those that drain, and gauges near their limits."""
    places = places_of(network)
    for combiner in network.combiners:
        if not combiner.live and now - (combiner.seen_at or now) < FORGOTTEN_SECONDS:
            yield _lost(combiner, places)
        elif combiner.live and combiner.drained_at:
            yield _draining(combiner, places, now)
    yield from _full("the reducer", network.gauges)
    for combiner in network.combiners:
        yield from _full(combiner.combiner, combiner.gauges)


def _lost(combiner: CombinerView, places: dict[ClientId, CombinerName]) -> Concern:
    seen = f"last seen {ago(combiner.seen_at)}" if combiner.seen_at else "not seen since the reducer started"
    return Concern(
        f"{combiner.combiner} is out of reach",
        f"{seen.capitalize()}{_whereabouts(combiner, places)}.",
        "See whether its process and its machine are up; it comes back by itself.",
        grave=True, links=_to(combiner),
    )  # fmt: skip


def _draining(combiner: CombinerView, places: dict[ClientId, CombinerName], now: float) -> Concern:
    count, spent = len(combiner.clients), duration(now - combiner.drained_at)
    still = (
        f"{counted(count, 'client')} {'is' if count == 1 else 'are'} still there" if count else "it is empty"
    )
    return Concern(
        f"{combiner.combiner} is being drained",
        f"It gets no more clients, for {spent} now; {still}{_whereabouts(combiner, places)}.",
        "" if count else "It may be stopped now, or undrained to have clients again.",
        links=_to(combiner),
    )  # fmt: skip


def _whereabouts(combiner: CombinerView, places: dict[ClientId, CombinerName]) -> str:
    """Where the clients are that it had, as the rest of a sentence."""
    had = about_combiner(combiner, places)["had"]
    if not had["count"]:
        return ""
    parts = [f"{count} moved to {where}" for where, count in sorted(had["moved"].items())]
    if had["gone"]:
        parts.append(f"{had['gone']} {'is' if had['gone'] == 1 else 'are'} attached nowhere")
    whose = f"its {counted(had['count'], 'client')}"
    if list(had["moved"].values()) == [had["count"]]:
        return f": {whose} moved to {next(iter(had['moved']))}"
    return f"; of {whose} {', '.join(parts)}" if parts else ""


def _to(combiner: CombinerView) -> tuple[tuple[str, str], ...]:
    return ((combiner.combiner, place("combiner", combiner.combiner)),)


def _full(where: str, gauges: Sequence[Gauge]) -> Iterator[Concern]:
    """Places that others may wait for are meant to be full now and then; what waits for them is not."""
    names = {gauge.name for gauge in gauges}
    for gauge in gauges:
        if gauge.value >= NEAR * gauge.limit and f"{gauge.name}_waiting" not in names:
            word = gauge.name.replace("_", " ")
            yield Concern(
                f"{word} at {where}: {gauge.value:,} of {gauge.limit:,}",
                "What comes once the limit is reached is refused or waits.",
                "Spread the load over more combiners, or raise the limit in its settings.",
                grave=gauge.value >= gauge.limit,
            )


def of_session(
    info: SessionInfo, why: Mapping[str, Any], gravity: str, unfit: Mapping[ClientId, str]
) -> Iterator[Concern]:
    """Why a session does not go on as it should, and who can't take part in it."""
    to = (("Why", url_for("page.why.of_session", session=info.session)),)
    if gravity != "good":
        yield Concern(f"{info.name}: {words(why['cause'])}", why["text"], _sentence(why["remedy"]),
                      gravity == "bad", to)  # fmt: skip
    elif unfit:
        yield Concern(
            f"{info.name}: {counted(len(unfit), 'client')} can't take part",
            f"{because({str(client): reason for client, reason in unfit.items()})}.",
            "Mend that at those clients and start them again.", links=to,
        )  # fmt: skip


def failed(info: SessionInfo, at: float, why: Mapping[str, Any]) -> Concern:
    """A session that has failed of late."""
    to = (("Why", url_for("page.why.of_session", session=info.session)),)
    return Concern(f"{info.name} failed {ago(at)}", why["text"], _sentence(why["remedy"]), True, to)


def of_certificates(settings: ReducerSettings, now: float) -> Iterator[Concern]:
    """Certificates of the reducer that expire before anybody would notice."""
    if not settings.network_dir:
        return
    folder = Path(settings.network_dir)
    if settings.https_certificate:
        yield from _expiring(
            "certificate for browsers", Path(settings.https_certificate), now, SOON_HTTPS,
            "Put a new one in its place and start the reducer again.",
        )  # fmt: skip
    yield from _expiring(
        "own certificate", folder / REDUCER / CERTIFICATE, now, 0.0,
        "It should have been renewed by now; the reducer's log says what hinders that.",
    )  # fmt: skip
    yield from _expiring(
        "authority", folder / CA, now, SOON_AUTHORITY,
        "Make a new network in time; everybody has to join it anew.",
    )  # fmt: skip


def _expiring(what: str, path: Path, now: float, soon: float, remedy: str) -> Iterator[Concern]:
    """``soon`` is in seconds; 0: so late in its life that it should have been renewed."""
    try:
        certificate = load_certificate(read_small(path) or b"")
    except (FednError, ValueError):
        yield Concern(f"The reducer's {what} can't be read", f"{path.name} is missing or is no certificate.",
                      "Put it back; the reducer does not start without it.", True)  # fmt: skip
        return
    begin, end = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    if end - now < (soon or LEFT * (end - begin)):
        when = f"in {duration(end - now)}" if end > now else ago(end)
        yield Concern(f"The reducer's {what} {'expires' if end > now else 'expired'} {when}",
                      f"It is good until {moment(end)} UTC.", remedy, end < now)  # fmt: skip


def words(cause: str) -> str:
    """A cause as it is read: 'too few clients'."""
    return cause.replace("_", " ")


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}." if text else ""
