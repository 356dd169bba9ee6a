"""`fedn session show`: one session on one screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fedn.cli import screen

if TYPE_CHECKING:
    from fedn.cli.rest_client import Reducer


def gathered(reducer: Reducer, session: str) -> dict[str, Any]:
    """A session with its rounds, their mean metrics, who checked, and its best model (or None)."""
    from fedn.domain.errors import NotFound

    path = f"/sessions/{session}"
    info: dict[str, Any] = reducer.get(path)
    rounds = list(reducer.pages(f"{path}/rounds", "rounds"))
    means: dict[int, Any] = {}
    checks: list[dict[str, Any]] = []
    following: int | None = -1
    while following is not None:
        page = reducer.get(f"{path}/metrics", after=following)
        means |= {item["round"]: item for item in page["rounds"]}
        checks += [row for row in page["rows"] if row["kind"] == "check"]
        following = page["next"]
    for item in rounds:
        item["metrics"] = {kind: means.get(item["round"], {}).get(kind) for kind in ("train", "validate")}
    try:
        best = reducer.get(f"{path}/best")
    except NotFound:  # nobody has validated yet, or not by that metric
        best = None
    return {**info, "rounds": rounds, "checks": checks, "best": best}


def draw(shown: dict[str, Any]) -> None:
    """What `gathered` found, for people."""
    _about(shown)
    _clients(shown)
    rows = [
        (r["round"] or "seed", r["contributors"], r["examples"], len(r["refused"]) + len(r["lost"]),
         _text(r, "train"), _text(r, "validate"), r["model"][:12])
        for r in shown["rounds"]
    ]  # fmt: skip
    columns = ("Round", "Clients", "Examples", "Absent", "Training", "Validation", "Model")
    screen.table(columns, rows, "")


def _about(shown: dict[str, Any]) -> None:
    plan, head, best = shown["plan"], shown["head"], shown["best"]
    screen.pairs({
        "session": shown["session"],
        **({"name": shown["name"]} if shown["name"] != shown["session"] else {}),
        "state": shown["state"] + (f": {shown['reason']}" if shown["reason"] else ""),
        "rounds": f"{head['round']} of {plan['rounds']}",
        "model": head["model"],
        **({"best": _best(best)} if best else {}),
        "head": head["record"],
        "plan": ", ".join(
            f"{name} {value}" for name, value in plan.items() if name != "rounds" and value not in ("", {})
        ),
    })  # fmt: skip
    if reason := shown["progress"].get("reason"):
        click.echo(f"now: {screen.clean(reason)}")


def _best(best: dict[str, Any]) -> str:
    value = screen.metrics_text({best["metric"]: best["value"]})
    return f"round {best['round']}, {value}, model {best['model']}"


def _text(item: dict[str, Any], kind: str) -> str:
    return screen.metrics_text((item["metrics"][kind] or {}).get("metrics", {}))


def _clients(shown: dict[str, Any]) -> None:
    """Who has checked that it can take part, and who can't or could not; nothing where nobody was asked."""
    rows = [(row["client"], "yes", row["examples"] or "", _found(row["metrics"])) for row in shown["checks"]]
    rows += [(client, "no", "", reason) for client, reason in (shown["unfit"] or {}).items()]
    if rows:
        screen.table(("Client", "Takes part", "Examples", "Found"), sorted(rows), "")
    if shown["unfit"] is None and shown["plan"]["check"]:
        screen.note("Who could not take part is not known any more: the reducer remembers it until it stops.")


def _found(facts: dict[str, float | None]) -> str:
    return "  ".join(f"{name} {value:g}" for name, value in sorted(facts.items()) if value is not None)
