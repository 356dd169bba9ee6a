"""`fedn sandbox`: a federation of real processes, seeded, trained, watched, audited."""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from fedn.cli import screen
from fedn.cli.options import json_option
from fedn.domain.errors import FednError, Unavailable

if TYPE_CHECKING:
    from fedn.cli.rest_client import Reducer
    from fedn.sandbox.processes import Sandbox

START_SECONDS = 120.0
LOOK_SECONDS = 0.05
DEFAULT_PORT = 8090


@click.command()
@click.option(
    "--rounds", type=click.IntRange(1, 10_000), default=10, show_default=True, help="Rounds to run."
)
@click.option(
    "--clients", type=click.IntRange(1, 100), default=5, show_default=True, help="Client processes."
)
@click.option("--combiners", type=click.IntRange(1, 20), default=2, show_default=True, help="Combiners.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="Port of the reducer's page and API; 0 for any.",
)
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    help="Where everything is kept. By default a temporary folder, removed at the end.",
)
@click.option("--tls", is_flag=True, help="Make it a network of its own: TLS everywhere, joined by token.")
@click.option("--exit", "leave", is_flag=True, help="Stop everything after training instead of staying open.")
@json_option
def sandbox(
    *, rounds: int, clients: int, combiners: int, port: int, directory: Path | None, tls: bool,
    leave: bool, as_json: bool,
) -> int:  # fmt: skip
    """Run a whole federation on this machine: a reducer, combiners and clients as separate processes.

    It seeds and trains a small network on real handwritten digits that are split unevenly and
    non-identically among the clients, shows accuracy by round and the trail, compares every round with
    flat averaging, and stays open with the page until Ctrl-C.

    \b
    Examples:
      fedn sandbox
      fedn sandbox --rounds 3 --clients 8 --combiners 4
      fedn sandbox --tls
      fedn sandbox --rounds 2 --exit --json
    """
    from fedn.cli.rest_client import Reducer
    from fedn.sandbox.processes import Sandbox, free_port

    begun = time.monotonic()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)  # also where a shell in the background has SIGINT ignored
    port = free_port(port)
    with _home(directory) as home, Sandbox(home, combiners, clients, port, tls=tls) as federation:
        screen.note(f"{1 + combiners + clients} processes, logs in {home / 'logs'}")
        if not tls:
            screen.note("On loopback everything is plain: no encryption, no login. --tls has both.")
        with Reducer(federation.url, federation.token) as reducer:
            session = _begin(reducer, federation, rounds)
            ended = _follow(reducer, session, begun)
            asked = {"rounds": rounds, "clients": clients, "combiners": combiners, "url": federation.url}
            report = {**asked, "session": session, **ended, **_audit(reducer, federation, session)}
            _show(reducer, report, as_json)
        if not leave:
            _stay(federation)
    return 0 if report["state"] == "finished" and report["trail_ok"] else 1


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


@contextmanager
def _home(directory: Path | None) -> Iterator[Path]:
    """The given folder, or a temporary one that goes unless something failed."""
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        yield directory.resolve()
        return
    home = Path(tempfile.mkdtemp(prefix="fedn-sandbox-"))
    try:
        yield home
    except FednError:
        screen.note(f"Logs are kept in {home / 'logs'}.")
        raise
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise
    shutil.rmtree(home, ignore_errors=True)


def _begin(reducer: Reducer, federation: Sandbox, rounds: int) -> str:
    """Seed the model as soon as the reducer is up, start the session as soon as all clients are there."""
    from fedn.helpers.files import seed_file
    from fedn.sandbox.digits import seed_model

    _until(federation, "the reducer to start", lambda: reducer.get("/network") is not None)
    seed = seed_file(seed_model())
    model = reducer.upload("/models", iter([seed]), len(seed), name="digits")
    wanted = federation.clients
    _until(
        federation, f"{wanted} clients to attach", lambda: len(reducer.get("/clients")["clients"]) >= wanted
    )
    plan = {"rounds": rounds, "min_clients": (wanted + 1) // 2, "round_deadline": 120.0}
    body = {"name": "sandbox: handwritten digits", "model": model["digest"], "plan": plan}
    return str(reducer.post("/sessions", body)["session"])


def _until(federation: Sandbox, what: str, ready: Callable[[], bool]) -> None:
    """Wait for processes that are starting; a dead one ends the wait with its log."""
    from rich.status import Status

    deadline = time.monotonic() + START_SECONDS
    with Status(f"waiting for {what}", console=screen.console(stderr=True)):
        while True:
            federation.check()
            try:
                if ready():
                    return
            except Unavailable:
                pass
            if time.monotonic() > deadline:
                raise Unavailable(f"gave up waiting for {what} after {START_SECONDS:g} s")
            time.sleep(LOOK_SECONDS)


def _follow(reducer: Reducer, session: str, begun: float) -> dict[str, Any]:
    """Draw the session until it ends; returns its end, accuracy by round and the first round's time."""
    from fedn.cli.follow import Follower
    from fedn.cli.watch import drawn

    first, accuracy, ended = 0.0, dict[int, float](), dict[str, Any]()
    with drawn(session, stderr=True) as story:
        for fact in Follower(reducer, session, patience=60.0).facts():
            story.tell(fact)
            match fact.event:
                case "round_committed":
                    first = first or time.monotonic() - begun
                case "round_validated":
                    accuracy[fact.fields["round"]] = fact.fields["metrics"].get("accuracy", 0.0)
                case "session_ended":
                    ended = {"state": fact.fields["state"], "reason": fact.fields["reason"]}
    by_round = [accuracy[number] for number in sorted(accuracy)]
    return {**ended, "accuracy": by_round, "seconds_to_first_round": round(first, 2)}


def _audit(reducer: Reducer, federation: Sandbox, session: str) -> dict[str, Any]:
    """Verify the trail, and compare every round with flat averaging of the clients' kept updates."""
    from fedn.sandbox.flat import largest_difference

    records = [item["record"] for item in reducer.pages(f"/sessions/{session}/trail", "records")]
    files = _kept_files(federation, records)
    # The clients put their last updates aside when they are settled, a moment after the commit.
    _until(
        federation, "the last updates to be settled", lambda: all(file.exists() for file in files.values())
    )
    trail = reducer.get(f"/sessions/{session}/trail/verify", patient=True)
    difference = largest_difference(records, files, lambda digest: _model(reducer, digest))
    return {"trail_ok": trail["ok"], "head": trail["head"], "flat_difference": difference}


def _kept_files(federation: Sandbox, records: list[dict[str, Any]]) -> dict[str, Path]:
    """Where the update with each digest in the trail is kept; a client's folder has its name."""
    return {
        c["digest"]: federation.kept(c["client"].rpartition("-")[0])
        / f"{record['session']}-{record['round']}-{c['digest']}.safetensors"
        for record in records
        for part in record["parts"]
        for c in part["contributors"]
    }


def _model(reducer: Reducer, digest: str) -> bytes:
    with reducer.stream(f"/models/{digest}", {}) as answer:
        return answer.read()


def _show(reducer: Reducer, report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        screen.put_json(report)
        return
    rows = enumerate((f"{accuracy:.4f}" for accuracy in report["accuracy"]), 1)
    screen.table(("Round", "Accuracy"), rows, "No round was validated.")
    difference = report["flat_difference"]
    screen.pairs({
        "first round after": f"{report['seconds_to_first_round']:.1f} s",
        "trail": f"{'verified' if report['trail_ok'] else 'DAMAGED'}, head {report['head']}",
        "largest difference from flat averaging": "n/a" if difference is None else f"{difference:.2e}",
    })  # fmt: skip


def _stay(federation: Sandbox) -> None:
    """Leave everything running until Ctrl-C."""
    try:
        if federation.tls:
            _tell_login(federation)
        click.secho(f"\nOpen {federation.url} — Ctrl-C stops everything.", bold=True, err=True)
        while True:
            federation.check()
            time.sleep(1.0)
    except KeyboardInterrupt:
        screen.note("Stopping.")


def _tell_login(federation: Sandbox) -> None:
    """Where the token lies; never the token itself, since this may go into a log."""
    file = federation.secured.token_file
    screen.note(
        f"\nLog in with the token in {file}. The browser warns: the certificate is of this network alone."
        f"\nFor commands: export FEDN_URL={federation.url} FEDN_TOKEN_FILE={file}"
    )
