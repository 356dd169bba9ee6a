"""`fedn session`: start, list, show, watch, pause, resume, stop; `asking` has the rest."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fedn.cli import asking, screen
from fedn.cli.options import Where, plan_options, plan_values, planned, remote

if TYPE_CHECKING:
    from fedn.cli.rest_client import Reducer


@click.group()
def session() -> None:
    """Start, list, show, watch, pause, resume and stop sessions: a model trained for a number of rounds.

    And ask their clients: predict, evaluate.

    Example: fedn session start --rounds 10 --watch
    """


for command in (asking.predict, asking.evaluate, asking.clients):
    session.add_command(command)


@session.command()
@click.option("--model", "digest", default="", metavar="MODEL",
              help="The model to start from, a part of its digest or its name; else the newest.")  # fmt: skip
@click.option("--name", default="", help="What people call this session.")
@click.option(
    "--plan",
    "plan_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="YAML file of plan fields; flags beat it.",
)
@plan_options
@click.option(
    "--watch", "watching", is_flag=True, help="Watch it until it ends, as `fedn session watch` does."
)
@remote
def start(
    *, digest: str, name: str, plan_file: Path | None, watching: bool, at: Where, as_json: bool, **given: Any
) -> None:
    """Start a session from a seed model and a compute plan.

    The session waits for clients if there are too few, and says so. --package may be any beginning of a
    package's digest, or its name: the newest of that name. --config hands hyperparameters to the clients'
    train(); a value that is JSON (0.1, true) is taken as such, anything else as text. One that changes is
    given by the rounds from which on its values hold.

    \b
    Examples:
      fedn session start --rounds 10 --min-clients 5 --config lr=0.1 --watch
      fedn session start --package mnist-keras --config 'lr={"1": 0.1, "10": 0.01}'
      fedn session start --rounds 100 --stop-metric accuracy --stop-patience 5
      fedn session start --model 3f2a --name digits --plan plan.yaml
    """
    plan = planned(plan_file, plan_values(given))
    package = plan.pop("package", "")
    from fedn.cli.rest_client import connect
    from fedn.domain.plan import plan_from

    plan_from(plan)  # a wrong field is named before anybody is asked
    with connect(at) as reducer:
        model = reducer.model(digest) if digest else ""
        if package:
            plan["package"] = reducer.package(str(package))
        if name and not as_json:
            _warn_of_namesakes(reducer, name)
        info = reducer.post("/sessions", {"name": name, "model": model, "plan": plan})
        if not as_json:
            _started(info, _called(reducer, info["head"]["model"]), chosen=bool(digest))
        elif not watching:
            screen.put_json(info)
        if watching:
            _watch(reducer, info["session"], as_json, 300.0)


def _warn_of_namesakes(reducer: Reducer, name: str) -> None:
    """A name that two sessions have names neither."""
    found = (item for item in reducer.get("/sessions")["sessions"] if item["name"] == name)
    if same := [item["session"] for item in found if item["state"] in ("running", "paused")]:
        problem = f"{same[0]} has the name {name!r}, too, and has not ended"
        screen.note(f"Warning: {problem}. Commands need the ids of both.")


def _called(reducer: Reducer, model: str) -> str:
    """The name of a seed model; '' for the model of a round."""
    return str(reducer.get(f"/models/{model}/info")["name"])


def _started(info: dict[str, Any], name: str, chosen: bool) -> None:
    model = info["head"]["model"][:12] + (f" ({name})" if name else "")
    click.echo(screen.clean(f"Session {info['session']} started from model {model}."))
    if not chosen:
        screen.note("That is the newest seed model; --model takes another, `fedn model list` shows them.")
    screen.note(f"Watch it with `fedn session watch {info['session']}`.")


@session.command("list")
@remote
def listing(at: Where, as_json: bool) -> None:
    """List sessions, newest first.

    Example: fedn session list
    """
    from fedn.cli.rest_client import connect

    with connect(at) as reducer:
        answer = reducer.get("/sessions")
    if as_json:
        screen.put_json(answer)
        return
    rows = [
        (s["session"], "" if s["name"] == s["session"] else s["name"], s["state"],
         f"{s['head']['round']}/{s['plan']['rounds']}", screen.moment(s["created_at"]), s["reason"])
        for s in answer["sessions"]
    ]  # fmt: skip
    columns = ("Session", "Name", "State", "Rounds", "Started", "Reason")
    screen.table(columns, rows, "No session yet. Start one with `fedn session start`.")


@session.command()
@click.argument("session_id", metavar="SESSION")
@remote
def show(session_id: str, at: Where, as_json: bool) -> None:
    """Show a session: plan, state, who takes part, its best model, and every round with its metrics.

    SESSION may be any beginning or end of its id, or its name, that no other session has.

    Example: fedn session show 3f2a
    """
    from fedn.cli.rest_client import connect
    from fedn.cli.show import draw, gathered

    with connect(at) as reducer:
        shown = gathered(reducer, reducer.session(session_id))
    if as_json:
        screen.put_json(shown)
    else:
        draw(shown)


@session.command()
@click.argument("session_id", metavar="SESSION")
@click.option("--patience", default=300.0, show_default=True, type=click.FloatRange(min=0),
              help="Seconds without a reducer after which to give up (exit code 3).")  # fmt: skip
@remote
def watch(session_id: str, patience: float, at: Where, as_json: bool) -> None:
    """Watch a session until it ends: progress bars, and a line for every committed round.

    Says why it waits, and goes on when the reducer is restarted. Ctrl-C stops watching, not the session.
    Exit code 0 when the session finished, 1 when it failed or was stopped. With --json: one JSON object per
    line, the last one with "event": "session_ended".

    Example: fedn session watch 3f2a
    """
    from fedn.cli.rest_client import connect

    with connect(at) as reducer:
        _watch(reducer, reducer.session(session_id), as_json, patience)


def _watch(reducer: Any, session_id: str, as_json: bool, patience: float) -> None:
    from fedn.cli.watch import watch_session

    try:
        finished = watch_session(reducer, session_id, as_json, patience)
    except KeyboardInterrupt:
        screen.note(f"The session goes on; `fedn session stop {session_id}` stops it.")
        raise
    if not finished:
        sys.exit(1)


@session.command()
@click.argument("session_id", metavar="SESSION")
@remote
def pause(session_id: str, at: Where, as_json: bool) -> None:
    """Pause a session: the round under way is still committed, and no other begins.

    It stays paused when the reducer restarts; `fedn session resume` goes on with it.

    Example: fedn session pause 3f2a
    """
    info = _asked(session_id, "pause", at)
    if as_json:
        screen.put_json(info)
    else:
        click.echo(f"Session {info['session']} pauses once the open round, if there is one, is committed.")


@session.command()
@click.argument("session_id", metavar="SESSION")
@remote
def resume(session_id: str, at: Where, as_json: bool) -> None:
    """Go on with a paused session.

    Example: fedn session resume 3f2a
    """
    info = _asked(session_id, "resume", at)
    if as_json:
        screen.put_json(info)
    else:
        words = "goes on" if info["state"] == "running" else f"is {info['state']}"
        click.echo(f"Session {info['session']} {words}; its last committed round is {info['head']['round']}.")


@session.command()
@click.argument("session_id", metavar="SESSION")
@remote
def stop(session_id: str, at: Where, as_json: bool) -> None:
    """Stop a session. What is committed stays; the round under way is dropped.

    Example: fedn session stop 3f2a
    """
    info = _asked(session_id, "stop", at)
    if as_json:
        screen.put_json(info)
    else:
        click.echo(f"Session {info['session']} is {info['state']} after round {info['head']['round']}.")


def _asked(session_id: str, what: str, at: Where) -> dict[str, Any]:
    from fedn.cli.rest_client import connect

    with connect(at) as reducer:
        answer: dict[str, Any] = reducer.post(f"/sessions/{reducer.session(session_id)}/{what}")
    return answer
