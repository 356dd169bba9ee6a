"""`fedn trail`: the chain of a session's models, shown and verified."""

from __future__ import annotations

from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from fedn.cli import screen
from fedn.cli.options import Where, remote
from fedn.cli.store_places import Places, bars, check_places, noted, on_stores, opened
from fedn.domain.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from fedn.ports import SessionInfo, StateStore
    from fedn.stores.retention import Pruned


@click.group()
def trail() -> None:
    """Show, verify and prune the model trail of a session: who contributed to which model.

    Example: fedn trail verify 3f2a
    """


@trail.command()
@click.argument("session_id", metavar="SESSION")
@click.option("--round", "number", type=click.IntRange(min=0), help="One round, with every contributor.")
@click.option("--after", type=click.IntRange(min=-1), default=-1, help="Begin behind this round.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many rounds; without it all.")
@remote
def show(
    session_id: str, number: int | None, after: int, limit: int | None, at: Where, as_json: bool
) -> None:
    """Show the trail: every committed round with its digest, parent, model and contributors.

    \b
    Examples:
      fedn trail show 3f2a
      fedn trail show 3f2a --round 3
      fedn trail show 3f2a --after 9900
    """
    from fedn.cli.rest_client import connect

    with connect(at) as reducer:
        path = f"/sessions/{reducer.session(session_id)}"
        if number is not None:
            _one(reducer.get(f"{path}/rounds/{number}"), as_json)
            return
        records = islice(reducer.pages(f"{path}/trail", "records", after), limit)
        if as_json:
            screen.put_json({"session": path.removeprefix("/sessions/"), "records": list(records)})
            return
        rows = list(map(_row, records))  # a long trail is never here in one piece
    columns = ("Round", "Record", "Parent", "Model", "Clients", "Examples", "Committed")
    screen.table(columns, rows, "No records.")


def _row(item: dict[str, Any]) -> tuple[Any, ...]:
    record = item["record"]
    contributors = [c for part in record["parts"] for c in part["contributors"]]
    examples = sum(c["examples"] for c in contributors)
    return (
        record["round"] or "seed", item["digest"][:10], record["parent"][:10], record["model"][:10],
        len(contributors), examples, screen.moment(record["committed_at"]),
    )  # fmt: skip


def _one(item: dict[str, Any], as_json: bool) -> None:
    if as_json:
        screen.put_json(item)
        return
    record = item["record"]
    names = ("round", "parent", "base_model", "model", "model_size", "plan_digest", "term")
    screen.pairs({"record": item["digest"]} | {name: record[name] for name in names})
    rows = [
        (c["client"], c["examples"], part["combiner"], part["part"], c["digest"][:16])
        for part in record["parts"]
        for c in part["contributors"]
    ]
    screen.table(
        ("Client", "Examples", "Combiner", "Part", "Update"), rows, "No contributors: this is the seed."
    )
    absences = [(word, a["client"], a["reason"]) for word in ("refused", "lost") for a in record[word]]
    if absences:
        screen.table(("Absent", "Client", "Reason"), absences, "")


@trail.command()
@click.argument("session_id", metavar="SESSION")
@click.option(
    "--state", metavar="URL", help="Verify this state store here, without a reducer (with --models)."
)
@click.option("--models", metavar="URL", help="The model store that goes with --state.")
@remote
def verify(session_id: str, state: str | None, models: str | None, at: Where, as_json: bool) -> None:
    """Prove that a trail is whole: every record, every link of the chain, every model, byte by byte.

    The head that is printed can be noted and compared later: a chain can't show that all of it was
    rewritten. Exit code 1 when something is damaged.

    \b
    Examples:
      fedn trail verify 3f2a
      fedn trail verify 3f2a --state sqlite:///fedn-data/reducer/state.db \\
          --models file:fedn-data/reducer/models
    """
    if (state is None) != (models is None):
        raise InvalidInput("--state", "goes with --models", "give both, or none to ask the reducer")
    report = _remotely(session_id, at) if state is None else _here(session_id, state, str(models))
    if as_json:
        screen.put_json(report)
    else:
        _print(report)
    if not report["ok"]:
        raise SystemExit(1)


def _remotely(session_id: str, at: Where) -> dict[str, Any]:
    from fedn.cli.rest_client import connect

    with connect(at) as reducer:
        report: dict[str, Any] = reducer.get(
            f"/sessions/{reducer.session(session_id)}/trail/verify", patient=True
        )
        return report


def _here(session_id: str, state_url: str, models_url: str) -> dict[str, Any]:
    from contextlib import closing
    from dataclasses import asdict

    from fedn.cli.rest_client import only
    from fedn.domain.ids import SessionId
    from fedn.stores import open_models, open_state
    from fedn.stores.trail import verify_trail

    check_places({"--state": state_url, "--models": models_url})
    with (
        closing(open_state(state_url, read_only=True)) as state,
        closing(open_models(models_url, read_only=True)) as models,
    ):
        ids = [info.session for info in state.sessions()]
        found = SessionId(only("session", session_id, ids, "fedn session list"))
        report = verify_trail(state, models, found)
    return asdict(report) | {"ok": report.ok}


def _print(report: dict[str, Any]) -> None:
    for note in report["notes"]:
        click.echo(screen.clean(note))
    for problem in report["problems"]:
        click.secho(screen.clean(problem), fg="red")
    verdict = "is whole" if report["ok"] else f"is damaged: {len(report['problems'])} problems"
    click.secho(f"The trail of {report['session']} {verdict}.", fg="green" if report["ok"] else "red")
    click.echo(f"{report['rounds']} records and {report['models']} models checked. Head {report['head']}")


@trail.command()
@click.option(
    "--keep-last",
    type=click.IntRange(min=1),
    required=True,
    metavar="N",
    help="Keep the models of a session's newest N rounds.",
)
@click.option("--keep-best", is_flag=True, help="Keep the best one, as `fedn session show` says it.")
@click.option(
    "--keep-every",
    type=click.IntRange(min=1),
    metavar="K",
    help="Keep every K-th round's, the seed included.",
)
@click.option(
    "--session", "session_id", metavar="SESSION", help="Only this session's; without it every one's."
)
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Leave what was written since.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@on_stores
def prune(
    keep_last: int, keep_best: bool, keep_every: int | None, session_id: str | None, grace: float,
    dry_run: bool, places: Places, as_json: bool,
) -> None:  # fmt: skip
    """Remove old models to save room; every record stays, and the trail verifies as before.

    Works on the stores themselves (see `fedn store --help`), also beside a running reducer. Never goes: the
    newest model of a session, what another session has or keeps, a seed from the list of models, and the
    newest three and the seed of a session that goes on. `fedn trail verify` says when models were pruned.

    \b
    Examples:
      fedn trail prune --keep-last 10 --keep-best --dry-run
      fedn trail prune --keep-last 10 --keep-every 100 -c settings-reducer.yaml
      fedn trail prune --keep-last 1 --session 3f2a --state sqlite:///fedn-data/reducer/state.db \\
          --models file:fedn-data/reducer/models
    """
    import time
    from dataclasses import asdict

    from fedn.cli.rest_client import only
    from fedn.domain.ids import SessionId
    from fedn.stores import retention

    rule = retention.Rule(keep_last, keep_every or 0)
    with opened(places, write=not dry_run) as (state, models), bars(as_json) as told:
        if keep_best:
            rule = retention.Rule(keep_last, keep_every or 0, partial(_best, state))
        ids = [info.session for info in state.sessions()]
        chosen = [SessionId(only("session", session_id, ids, "fedn session list"))] if session_id else []
        report = retention.prune(
            state, models, rule, time.time(), only=chosen, grace=grace, dry_run=dry_run, told=told
        )
        if report.digests and not dry_run:
            what = {"models": report.models, "keep_last": keep_last, "keep_every": keep_every or 0}
            note = noted("models_pruned", chosen[0] if chosen else "all sessions", **what)
            state.identity.append_audit(note)
    if as_json:
        screen.put_json(asdict(report))
    else:
        _print_pruned(report, grace)


def _best(state: StateStore, info: SessionInfo) -> int | None:
    from fedn.reducer.metrics import best_model

    try:
        return best_model(state, info).round
    except NotFound:
        return None


def _print_pruned(report: Pruned, grace: float) -> None:
    what = screen.counted(report.models, "model")
    if report.optimizer_states:
        what += f" and {screen.counted(report.optimizer_states, 'optimizer state')}"
    of = f"{what} of {screen.counted(report.sessions, 'session')}, {screen.bytes_of(report.bytes)}"
    click.echo(f"Would remove {of}." if report.dry_run else f"Removed {of}.")
    if report.recent:
        left = screen.counted(report.recent, "model")
        screen.note(f"Left alone: {left} written in the last {grace:g} seconds.")
    if report.dry_run:
        screen.note("Nothing was removed; without --dry-run it is.")
