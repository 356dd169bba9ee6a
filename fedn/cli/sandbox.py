"""`fedn sandbox`: a federation of real processes, seeded, trained, watched, audited."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from fedn.cli import screen
from fedn.cli.options import json_option
from fedn.domain.errors import FednError, InvalidInput, Unavailable

if TYPE_CHECKING:
    from fedn.cli.rest_client import Reducer
    from fedn.sandbox.examples import Example, Script, Work
    from fedn.sandbox.processes import Sandbox

START_SECONDS = 120.0
LOOK_SECONDS = 0.05
DEFAULT_PORT = 8090


@click.command()
@click.option(
    "--example", "named", metavar="NAME", default="",
    help="Train an example: a folder with a package, or the name of one in the source tree's examples/.",
)  # fmt: skip
@click.option(
    "--rounds", type=click.IntRange(1, 10_000), default=None,
    help="Rounds to run.  [default: 10, or as the example says]",
)  # fmt: skip
@click.option(
    "--clients", type=click.IntRange(1, 100), default=None,
    help="Client processes.  [default: 5, or as the example says]",
)  # fmt: skip
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
    *, named: str, rounds: int | None, clients: int | None, combiners: int, port: int,
    directory: Path | None, tls: bool, leave: bool, as_json: bool,
) -> int:  # fmt: skip
    """Run a whole federation on this machine: a reducer, combiners and clients as separate processes.

    It seeds and trains a small network on real handwritten digits that are split unevenly and
    non-identically among the clients, shows accuracy by round and the trail, compares every round with
    flat averaging, and stays open with the page until Ctrl-C. With --example the clients run its compute
    package on data that its make_data.py deals to them.

    \b
    Examples:
      fedn sandbox
      fedn sandbox --rounds 3 --clients 8 --combiners 4
      fedn sandbox --tls
      fedn sandbox --example mnist-keras
      fedn sandbox --rounds 2 --exit --json
    """
    from fedn.cli.rest_client import Reducer
    from fedn.sandbox import examples
    from fedn.sandbox.processes import Sandbox, free_port

    begun = time.monotonic()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)  # also where a shell in the background has SIGINT ignored
    port = free_port(port)
    example = examples.find(named) if named else None
    if example and example.runs_itself:
        _check_not_given(example, rounds, clients)
    rounds = rounds or (example.rounds if example else examples.ROUNDS)
    clients = clients or (example.clients if example else examples.CLIENTS)
    with _home(directory) as home:
        work = _prepared(example, clients, home)
        data, started = (work.data, clients) if work else ((), 0 if example else clients)
        with Sandbox(home, combiners, started, port, tls=tls, data=data) as federation:
            screen.note(f"{1 + combiners + started} processes, logs in {home / 'logs'}")
            if not tls:
                screen.note("On loopback everything is plain: no encryption, no login. --tls has both.")
            with Reducer(federation.url, federation.token) as reducer:
                report = _run(reducer, federation, example, work, rounds, begun, as_json)
                _show(report, as_json)
            if example:
                example.tell(report, _output(as_json))
            if not leave:
                _stay(federation)
    return 0 if report["state"] == "finished" and report["trail_ok"] else 1


def _output(as_json: bool) -> Any:
    """Where examples may print."""
    return sys.stderr if as_json else sys.stdout


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
        if (home / "logs").exists():
            screen.note(f"Logs are kept in {home / 'logs'}.")
        else:
            shutil.rmtree(home, ignore_errors=True)
        raise
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise
    shutil.rmtree(home, ignore_errors=True)


def _check_not_given(example: Example, rounds: int | None, clients: int | None) -> None:
    for flag, value in (("--rounds", rounds), ("--clients", clients)):
        if value is not None:
            raise InvalidInput(flag, f"is decided by {example.name} itself", "leave it out")


def _prepared(example: Example | None, clients: int, home: Path) -> Work | None:
    """What there is to train; None where that is up to the sandbox, or to the example's own program."""
    from rich.status import Status

    if example is None or example.runs_itself:
        return None
    with Status(f"{example.name}: making data and a seed model", console=screen.console(stderr=True)):
        work = example.prepare(clients, home / "data")
    screen.note(work.about)
    return work


def _run(
    reducer: Reducer, federation: Sandbox, example: Example | None, work: Work | None, rounds: int,
    begun: float, as_json: bool,
) -> dict[str, Any]:  # fmt: skip
    """One session from its start to its end, and all that is to be told of it."""
    _until(federation, "the reducer to start", lambda: reducer.get("/network") is not None)
    with ExitStack() as stack:
        script = None
        if example and example.runs_itself:
            log = federation.directory / "logs" / f"{example.name}.log"
            earlier = _sessions(reducer)
            script = stack.enter_context(example.running(federation.environment, _output(as_json), log))
            session = _begun(reducer, federation, script, earlier)
        else:
            session = _begin(reducer, federation, rounds, work)
        report = {
            "rounds": reducer.get(f"/sessions/{session}")["plan"]["rounds"],
            "clients": federation.clients or len(reducer.get("/clients")["clients"]),
            "combiners": federation.combiners, "url": federation.url, "session": session,
        }  # fmt: skip
        if example:
            report |= {"example": example.name, "data": work.about if work else ""}
        report |= _follow(reducer, session, begun, quiet=script is not None)  # it draws itself
        if script:
            script.wait()
    return {**report, **_metrics(reducer, session, report["rounds"]), **_audit(reducer, federation, session)}


def _sessions(reducer: Reducer) -> set[str]:
    return {item["session"] for item in reducer.get("/sessions")["sessions"]}


def _begun(reducer: Reducer, federation: Sandbox, script: Script, earlier: set[str]) -> str:
    """The session that an example's own program starts."""

    def there() -> bool:
        script.check()
        return _sessions(reducer) != earlier

    _until(federation, f"{script.path} to start a session", there)
    return min(_sessions(reducer) - earlier)


def _begin(reducer: Reducer, federation: Sandbox, rounds: int, given: Work | None) -> str:
    """Seed the model as soon as the reducer is up, start the session as soon as all clients are there."""
    from fedn.sandbox.digits import work as digits

    work = given or digits()
    model = reducer.upload("/models", iter([work.seed]), len(work.seed), name=work.name)
    plan = {"rounds": rounds, **_patience(federation.clients, work), **work.plan}
    if work.package:
        package = reducer.upload("/packages", iter([work.package]), len(work.package))
        plan["package"] = package["digest"]
    wanted = federation.clients
    _until(
        federation, f"{wanted} clients to attach", lambda: len(reducer.get("/clients")["clients"]) >= wanted
    )
    body = {"name": f"sandbox: {work.name}", "model": model["digest"], "plan": plan}
    return str(reducer.post("/sessions", body)["session"])


def _patience(clients: int, work: Work) -> dict[str, Any]:
    """An example waits for all its clients: some frameworks take long to start."""
    if work.package:
        return {"min_clients": clients, "round_deadline": 3600.0, "validation_deadline": 3600.0}
    return {"min_clients": (clients + 1) // 2, "round_deadline": 120.0}


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


def _follow(reducer: Reducer, session: str, begun: float, quiet: bool) -> dict[str, Any]:
    """Draw the session until it ends; returns its end and the first round's time. Raises FednError."""
    from fedn.sdk.drawing import drawn
    from fedn.sdk.follow import Follower

    first, ended = 0.0, dict[str, Any]()
    with drawn(f"session {session}", stderr=True, quiet=quiet) as story:
        for fact in Follower(reducer, session, patience=60.0).facts():
            story.tell(fact)
            match fact.event:
                case "round_committed":
                    first = first or time.monotonic() - begun
                case "client_unfit":  # nobody else is there to come in its place
                    raise FednError(f"{fact.fields['client']} can't take part: {fact.fields['reason']}")
                case "session_ended":
                    ended = {"state": fact.fields["state"], "reason": fact.fields["reason"]}
    return {**ended, "seconds_to_first_round": round(first, 2), "seconds": round(time.monotonic() - begun, 2)}


def _metrics(reducer: Reducer, session: str, rounds: int) -> dict[str, Any]:
    """The clients' means by round, from round 1 on; {} where there are none."""
    found = {item["round"]: item for item in reducer.pages(f"/sessions/{session}/metrics", "rounds")}

    def by_round(kind: str) -> list[dict[str, float]]:
        return [found.get(number, {}).get(kind, {}).get("metrics", {}) for number in range(1, rounds + 1)]

    validation = by_round("validate")
    accuracy = [metrics["accuracy"] for metrics in validation if "accuracy" in metrics]
    return {"accuracy": accuracy, "training": by_round("train"), "validation": validation}


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


def _show(report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        screen.put_json(report)
        return
    rounds = [
        {**validated, **{f"training {name}": value for name, value in trained.items()}}
        for trained, validated in zip(report["training"], report["validation"], strict=True)
    ]
    names = list(dict.fromkeys(name for metrics in rounds for name in metrics))
    rows = [
        (number, *(f"{metrics[name]:.4f}" if name in metrics else "" for name in names))
        for number, metrics in enumerate(rounds, 1)
        if metrics
    ]
    screen.table(("Round", *(name.capitalize() for name in names)), rows, "There are no metrics.")
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
