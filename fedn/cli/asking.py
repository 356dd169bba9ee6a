"""`fedn session predict`, `evaluate`, `clients`: what a session's clients answer, and what they did."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from fedn.cli import screen
from fedn.cli.options import Where, remote

if TYPE_CHECKING:
    from fedn.cli.rest_client import Reducer

LOOK_SECONDS = 0.3
_MODEL = "Which model: 'latest', 'best' (as `fedn session show` says it), a round's number, or a digest."


@click.command()
@click.argument("session_id", metavar="SESSION")
@click.option("--model", "which", default="latest", show_default=True, help=_MODEL)
@remote
def predict(session_id: str, which: str, at: Where, as_json: bool) -> None:
    """Have the session's clients predict on their own data; the predictions stay with each of them.

    Also when the session has ended. Shown are how many examples each client predicted, its metrics, or why
    it did not: those that checked before the session, and are attached now, are asked. Exit code 1 when
    nobody did.

    \b
    Examples:
      fedn session predict 3f2a
      fedn session predict 3f2a --model best
    """
    _ask(session_id, "predict", which, at, as_json)


@click.command()
@click.argument("session_id", metavar="SESSION")
@click.option("--model", "which", default="latest", show_default=True, help=_MODEL)
@remote
def evaluate(session_id: str, which: str, at: Where, as_json: bool) -> None:
    """Have the session's clients evaluate a model on their own data, apart from its rounds.

    Also when the session has ended, and any model with the same tensors. The metrics are shown, and not
    stored with the session's. Exit code 1 when nobody answered.

    \b
    Examples:
      fedn session evaluate 3f2a --model best
      fedn session evaluate 3f2a --model 9c41d0aa
    """
    _ask(session_id, "evaluate", which, at, as_json)


@click.command()
@click.argument("session_id", metavar="SESSION")
@remote
def clients(session_id: str, at: Where, as_json: bool) -> None:
    """Show what each client did in a session: rounds, examples, absences, and its last metrics.

    Example: fedn session clients 3f2a
    """
    from fedn.cli.rest_client import connect

    found: list[dict[str, Any]] = []
    with connect(at) as reducer:
        path, following = f"/sessions/{reducer.session(session_id)}/clients", ""
        while following is not None:
            page = reducer.get(path, after=following)
            found += page["clients"]
            following = page["next"]
    if as_json:
        screen.put_json({"clients": found})
        return
    rows = [
        (c["client"], c["rounds"], c["last_round"] or "", c["examples"], c["refused"], c["lost"],
         _metrics(c["train"]), _metrics(c["validate"]))
        for c in found
    ]  # fmt: skip
    columns = ("Client", "Rounds", "Last", "Examples", "Refused", "Lost", "Training", "Validation")
    screen.table(columns, rows, "No client has taken part yet.")


def _metrics(reported: dict[str, Any] | None) -> str:
    return screen.metrics_text(reported["metrics"]) if reported else ""


# --- asking ----------------------------------------------------------------------------------------


def _ask(session_id: str, what: str, which: str, at: Where, as_json: bool) -> None:
    from fedn.cli.rest_client import connect

    with connect(at) as reducer:
        session = reducer.session(session_id)
        path = f"/sessions/{session}"
        asked = reducer.post(f"{path}/{what}", _body(reducer, session, which))
        if not as_json:
            screen.note(f"Asked {screen.counted(len(asked['asked']), 'client')}; Ctrl-C stops watching.")
        while asked["running"]:
            time.sleep(LOOK_SECONDS)
            asked = reducer.get(f"{path}/inquiries/{asked['inquiry']}")
    if as_json:
        screen.put_json(asked)
    else:
        _draw(asked)
    if not asked["answers"]:
        raise click.exceptions.Exit(1)


def _body(reducer: Reducer, session: str, which: str) -> dict[str, Any]:
    if which == "latest":
        return {}
    if which == "best":
        remedy = "give --model latest, or a round's number"
        return {"model": reducer.best(session, remedy)}
    if which.isdecimal() and len(which) < 8:  # a digest's beginning has a letter, or is longer
        return {"round": int(which)}
    return {"model": reducer.model(which)}


def _draw(asked: dict[str, Any]) -> None:
    rows = [(a["client"], a["examples"], screen.metrics_text(a["metrics"])) for a in asked["answers"]]
    rows += [(one["client"], "", one["reason"]) for one in asked["failed"]]
    screen.table(("Client", "Examples", "Answer"), sorted(rows), "Nobody was asked.")
    means = asked["means"]
    said = screen.metrics_text(means["metrics"])
    about = f"{screen.counted(means['clients'], 'client')}, {screen.counted(means['examples'], 'example')}"
    click.echo(f"{asked['kind']} of model {asked['model'][:12]}: {about}" + (f"  {said}" if said else ""))
