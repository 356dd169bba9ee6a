"""`fedn trail`: the chain of a session's models, shown and verified."""

from __future__ import annotations

from typing import Any

import click

from fedn.cli import screen
from fedn.cli.options import Where, remote
from fedn.domain.errors import InvalidInput


@click.group()
def trail() -> None:
    """Show and verify the model trail of a session: who contributed to which model.

    Example: fedn trail verify 3f2a
    """


@trail.command()
@click.argument("session_id", metavar="SESSION")
@click.option("--round", "number", type=click.IntRange(min=0), help="One round, with every contributor.")
@remote
def show(session_id: str, number: int | None, at: Where, as_json: bool) -> None:
    """Show the trail: every committed round with its digest, parent, model and contributors.

    \b
    Examples:
      fedn trail show 3f2a
      fedn trail show 3f2a --round 3
    """
    from fedn.cli.rest_client import connect

    with connect(at) as reducer:
        path = f"/sessions/{reducer.session(session_id)}"
        if number is not None:
            _one(reducer.get(f"{path}/rounds/{number}"), as_json)
            return
        records = list(reducer.pages(f"{path}/trail", "records"))
    if as_json:
        screen.put_json(
            {"session": records[0]["record"]["session"] if records else session_id, "records": records}
        )
        return
    screen.table(
        ("Round", "Record", "Parent", "Model", "Clients", "Examples", "Committed"),
        map(_row, records),
        "No records.",
    )


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

    with (
        closing(open_state(state_url, read_only=True)) as state,
        closing(open_models(models_url, read_only=True)) as models,
    ):
        ids = [info.session for info in state.sessions()]
        found = SessionId(only("session", session_id, ids, "fedn session list"))
        report = verify_trail(state, models, found)
    return asdict(report) | {"ok": report.ok}


def _print(report: dict[str, Any]) -> None:
    for problem in report["problems"]:
        click.secho(screen.clean(problem), fg="red")
    verdict = "is whole" if report["ok"] else f"is damaged: {len(report['problems'])} problems"
    click.secho(f"The trail of {report['session']} {verdict}.", fg="green" if report["ok"] else "red")
    click.echo(f"{report['rounds']} records and {report['models']} models checked. Head {report['head']}")
