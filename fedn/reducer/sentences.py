"""What an event says to a person: one sentence, and how grave it is. Pure.

An event that is not known here, or has not the fields of this version, is told by its name and fields.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from fedn.reducer.preflight import CHECKING

Fields: TypeAlias = Mapping[str, Any]
Gravity: TypeAlias = Literal["info", "good", "warning", "error"]
GRAVITIES: Sequence[Gravity] = get_args(Gravity)
MAX_NAMED = 5
"""Clients that a sentence names; it counts the rest."""
CLIENTS = frozenset({"client", "clients", "attached", "moved", "left", "refused", "lost"})
"""Fields in which clients are."""
NOBODY: Mapping[str, str] = {}
DIGEST_LETTERS = 64
MAX_LETTERS = 200
"""Of a value that is told as it is."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """``warns``: whether an event is a warning instead of what its kind is as a rule."""

    words: Callable[[Fields], str]
    gravity: Gravity = "info"
    warns: Callable[[Fields], object] | None = None


def sentence(event: str, fields: Fields, names: Mapping[str, str] = NOBODY) -> str:
    """The event in words; ``names`` are what clients are called, by their ids."""
    fields = {**fields} | {field: _named(fields[field], names) for field in CLIENTS & fields.keys()}
    if kind := EVENTS.get(event):
        try:
            return kind.words(fields)
        except (KeyError, TypeError, ValueError, AttributeError):
            pass  # it was told by another version
    name = event.replace("_", " ").capitalize()
    told = [f"{field} {_short(value)}" for field, value in fields.items() if not isinstance(value, Mapping)]
    return f"{name}: {', '.join(told)}." if told else f"{name}."


def gravity(event: str, fields: Fields) -> Gravity:
    """How much it should catch the eye."""
    kind = EVENTS.get(event)
    if kind is None:
        return "info"
    return "warning" if kind.warns and kind.warns(fields) else kind.gravity


def events_of(gravities: Collection[str]) -> frozenset[str]:
    """Names of the events that may be of one of these; none where any name may be."""
    if "info" in gravities:
        return frozenset()
    return frozenset(
        name
        for name, kind in EVENTS.items()
        if kind.gravity in gravities or (kind.warns and "warning" in gravities)
    )


# --- words -----------------------------------------------------------------------------------------


def _named(value: Any, names: Mapping[str, str]) -> Any:
    """A field that says which clients, with what they are called in place of their ids."""
    if isinstance(value, str):
        return names.get(value, value)
    if isinstance(value, list | tuple):
        return [_named(each, names) for each in value]
    if isinstance(value, Mapping):
        return {names.get(client, client): each for client, each in value.items()}
    return value


def _short(value: Any) -> str:
    """A value as it is, cut; a digest by its beginning, a list by its length where that is shorter."""
    if isinstance(value, list | tuple):
        return _names(value)
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text[:12] if len(text) == DIGEST_LETTERS and text.isalnum() else text[:MAX_LETTERS]


def _counted(number: int, what: str = "client") -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _names(names: Sequence[Any], count: int = 0) -> str:
    """The first of some names, and how many more there are."""
    shown = [str(name)[:MAX_LETTERS] for name in names[:MAX_NAMED]]
    more = max(count, len(names)) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "") if shown else "nobody"


def _because(fields: Fields) -> str:
    """': ' and the reason, without a full stop behind it."""
    reason = str(fields.get("reason", "")).strip().rstrip(".")
    return f": {reason}" if reason else ""


def _round(fields: Fields) -> str:
    return f"Round {fields['round']}" + (f" of {fields['rounds']}" if "rounds" in fields else "")


def _session(how: str) -> Callable[[Fields], str]:
    return lambda fields: f"Session {fields['session']} {how}{_because(fields)}."


def _waiting(fields: Fields) -> str:
    what = f"Round {fields['round']}" if "round" in fields else f"Session {fields['session']}"
    return f"{what} waits{_because(fields)}."


def _session_started(fields: Fields) -> str:
    name = f" ({fields['name']})" if fields.get("name") else ""
    return (
        f"Session {fields['session']}{name} started: {_counted(fields['rounds'], 'round')} "
        f"from model {_short(fields['model'])}."
    )


def _session_recovered(fields: Fields) -> str:
    return (
        f"Session {fields['session']} goes on behind round {fields['round']} of {fields['rounds']}, "
        "after a restart of the reducer."
    )


def _round_opened(fields: Fields) -> str:
    return f"{_round(fields)} has begun; {_counted(fields['expected'])} {_are(fields['expected'])} to train."


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _update_received(fields: Fields) -> str:
    return (
        f"Round {fields['round']}: {fields['client']} has sent its update over "
        f"{_counted(fields['examples'], 'example')}; {fields['received']} of {fields['expected']} are here."
    )


def _client_progress(fields: Fields) -> str:
    stands = [f"{client} {stand['state']}" for client, stand in fields["clients"].items()]
    return f"Round {fields['round']}: {_names(stands) if stands else 'many clients have moved on'}."


def _round_committed(fields: Fields) -> str:
    number, took = fields["contributors"], sum(fields.get("seconds", {}).values())
    told = f"{_round(fields)} was committed{f' after {took:.3g} s' if took else ''}"
    story = [f"{_counted(number)} contributed"]
    for what in ("refused", "lost"):
        if names := fields.get(what):
            story.append(f"{len(names)} {'was' if len(names) == 1 else 'were'} {what} ({_names(names)})")
    return f"{told}: {'; '.join(story)}."


def _round_validated(fields: Fields) -> str:
    means = ", ".join(f"{name} {_short(value)}" for name, value in fields["metrics"].items())
    told = f"Round {fields['round']} was validated by {_counted(fields['clients'])}"
    return f"{told}: {means}." if means else f"{told}."


def _best_model(fields: Fields) -> str:
    return (
        f"Round {fields['round']} made the best model so far: {fields['metric']} {_short(fields['value'])}, "
        f"model {_short(fields['model'])}."
    )


def _client_fit(fields: Fields) -> str:
    return (
        f"Client {fields['client']} passed the check, on {_counted(fields['examples'], 'example')} "
        "of its own."
    )


def _inquiry_started(fields: Fields) -> str:
    number, kind = fields["clients"], fields["kind"]
    what = f"{'an' if kind.startswith('e') else 'a'} {kind} with the model of round {fields['round']}"
    return f"{_counted(number)} {_are(number)} asked for {what}."


def _inquiry_ended(fields: Fields) -> str:
    failed = f", {fields['failed']} did not" if fields["failed"] else ""
    return (
        f"The {fields['kind']} with the model of round {fields['round']} has ended: "
        f"{_counted(fields['clients'])} answered{failed}."
    )


def _combiner_up(fields: Fields) -> str:
    return f"Combiner {fields['combiner']} is connected, with {_counted(fields['count'])}."


def _with_clients(what: str, then: str) -> Callable[[Fields], str]:
    """Of a combiner whose ``clients`` have to go elsewhere."""

    def words(fields: Fields) -> str:
        names, count = fields.get("clients", ()), fields.get("count", 0)
        theirs = f" Its {_counted(count)} {then}: {_names(names, count)}." if count else ""
        return f"Combiner {fields['combiner']} {what}.{theirs}"

    return words


def _clients_changed(fields: Fields) -> str:
    counts = fields["counts"]
    told = [
        f"{_names(fields[how], counts[how])} {words}"
        for how, words in (("attached", "attached"), ("moved", "came over"), ("left", "left"))
        if counts[how]
    ]
    origins = f" (from {', '.join(fields['from'])})" if fields.get("from") else ""
    return f"At combiner {fields['combiner']}: {'; '.join(told)}{origins}."


def _network_changed(fields: Fields) -> str:
    return (
        f"The network has {_counted(fields['combiners'], 'combiner')} and {_counted(fields['clients'])} now."
    )


def _kept(what: str, key: str) -> Callable[[Fields], str]:
    def words(fields: Fields) -> str:
        size = _counted(fields["size"], "byte")
        return f"{what} {fields['name'] or 'without a name'} ({_short(fields[key])}, {size}) was uploaded."

    return words


def _client_failed(fields: Fields) -> str:
    what = {"train": "train on", "validate": "validate"}.get(fields.get("kind", ""), "work with")
    return (
        f"Client {fields['client']} could not {what} the model of round {fields['round']}{_because(fields)}."
    )


EVENTS: Mapping[str, _Kind] = {
    "reducer_started": _Kind(lambda fields: f"The reducer has started, in term {fields['term']}."),
    "reducer_stopped": _Kind(
        lambda fields: "The reducer has stopped in good order; sessions go on when it is back."
    ),
    "model_seeded": _Kind(_kept("Seed model", "model")),
    "package_uploaded": _Kind(_kept("Package", "package")),
    "session_started": _Kind(_session_started),
    "session_recovered": _Kind(_session_recovered),
    "session_paused": _Kind(_session("is paused")),
    "session_resumed": _Kind(_session("goes on")),
    "session_finished": _Kind(_session("has finished"), "good"),
    "session_failed": _Kind(_session("has failed"), "error"),
    "session_cancelled": _Kind(_session("was stopped")),
    "round_opened": _Kind(_round_opened),
    "waiting": _Kind(_waiting, warns=lambda fields: fields.get("reason") != CHECKING),
    "update_received": _Kind(_update_received),
    "client_progress": _Kind(_client_progress),
    "round_committed": _Kind(
        _round_committed, "good", lambda fields: fields.get("refused") or fields.get("lost")
    ),
    "round_validated": _Kind(_round_validated),
    "validation_skipped": _Kind(
        lambda fields: (
            f"Round {fields['round']} was not validated: its clients are still at the models before it."
        )
    ),
    "best_model": _Kind(_best_model, "good"),
    "client_fit": _Kind(_client_fit),
    "client_unfit": _Kind(
        lambda fields: f"Client {fields['client']} can't take part{_because(fields)}.", "warning"
    ),
    "client_failed": _Kind(_client_failed, "warning"),
    "inquiry_started": _Kind(_inquiry_started),
    "inquiry_ended": _Kind(_inquiry_ended, warns=lambda fields: fields.get("failed")),
    "combiner_up": _Kind(_combiner_up),
    "combiner_lost": _Kind(_with_clients("does not answer any more", "go elsewhere"), "warning"),
    "combiner_draining": _Kind(
        _with_clients("is being drained and gets no more clients", "are sent elsewhere")
    ),
    "combiner_undrained": _Kind(lambda fields: f"Combiner {fields['combiner']} may have clients again."),
    "clients_changed": _Kind(_clients_changed),
    "network_changed": _Kind(_network_changed),
    "lagged": _Kind(lambda fields: "Some events were missed here; look again.", "warning"),
}
"""Every event that a reducer tells of."""
