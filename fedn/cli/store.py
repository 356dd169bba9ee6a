"""`fedn store`: whether the stores work, what lies in them, what may go, and a network's move to others."""

from __future__ import annotations

import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fedn.cli import screen
from fedn.cli.options import confirm, json_option
from fedn.cli.store_places import (
    FILE,
    Places,
    bars,
    check_kept,
    noted,
    of_target,
    on_stores,
    opened,
    place,
    places_of,
)
from fedn.domain.errors import InvalidInput

if TYPE_CHECKING:
    from fedn.stores.copying import Stores
    from fedn.stores.naming import Told


@click.group()
def store() -> None:
    """Check, measure, clean up and move the stores of a network.

    These commands open the state store and the model store themselves, as the reducer does: run them
    where its settings are, with the rights that it has. They may run beside it.

    Example: fedn store check -c settings-reducer.yaml
    """


@store.command(short_help="Say whether both stores work.")
@click.option("--create", is_flag=True, help="Make what is not there yet, as a reducer does when it starts.")
@on_stores
def check(create: bool, places: Places, as_json: bool) -> None:
    """Try what a reducer does with its stores: open, read, write, delete. Exit code 1 if something fails.

    What is written is nothing in the state store, and in the model store a blob of a few bytes that is
    deleted again.

    \b
    Examples:
      fedn store check
      fedn store check -c settings-reducer.yaml --json
      fedn store check --create
    """
    from fedn.domain.urls import shown
    from fedn.ports import ModelStore, StateStore
    from fedn.stores import open_models, open_state
    from fedn.stores.collecting import check_models, check_state

    def state() -> StateStore:
        if not create:
            open_state(places.state, read_only=True, current=True).close()
        return open_state(places.state)

    def models() -> ModelStore:
        if not create:
            open_models(places.models, read_only=True).close()
        return open_models(places.models)

    checks = check_state(state) + check_models(models)
    ok = all(each.ok for each in checks)
    where = {"state": shown(places.state), "models": shown(places.models)}
    if as_json:
        screen.put_json({"ok": ok, **where, "checks": [asdict(each) | {"ok": each.ok} for each in checks]})
    else:
        rows = [(each.store, each.what, each.problem or "ok") for each in checks]
        screen.pairs(where)
        screen.table(("Store", "Tried", "Outcome"), rows, "")
        if any("there is no" in each.problem for each in checks):
            screen.note("A reducer makes what is not there when it starts; so does --create.")
    if not ok:
        raise SystemExit(1)


@store.command(short_help="Count what is in them.")
@on_stores
def stats(places: Places, as_json: bool) -> None:
    """Count sessions, records, blobs and bytes, and what of these nobody names.

    Example: fedn store stats -c settings-reducer.yaml
    """
    from fedn.stores.collecting import stats as counted

    with opened(places, write=False) as (state, models), bars(as_json) as told:
        found = counted(state, models, told)
    if as_json:
        screen.put_json(asdict(found))
        return
    screen.pairs({
        "sessions": found.sessions, "records": found.records, "seed models": found.models,
        "packages": found.packages, "pruned models": found.pruned,
        "blobs": f"{found.blobs} ({screen.bytes_of(found.bytes)})",
        "unreferenced": f"{found.unreferenced} ({screen.bytes_of(found.unreferenced_bytes)})",
    })  # fmt: skip
    if found.unreferenced:
        screen.note("`fedn store gc` shows which of them are old enough to be removed.")


@store.command(short_help="Find and remove what nobody names.")
@click.option("--delete", is_flag=True, help="Really remove them; without it they are only counted.")
@click.option(
    "--grace", type=click.FloatRange(min=0), default=3600.0, show_default=True, metavar="SECONDS",
    help="Leave what was written since; longer than any upload or commit takes.",
)  # fmt: skip
@on_stores
def gc(delete: bool, grace: float, places: Places, as_json: bool) -> None:
    """Find blobs that nobody names, left by a death between a model and its record; remove them if told.

    A model is stored before the record that names it, so a young blob may be about to be named: what was
    written within the grace period is left. That makes this safe beside a running reducer. Give
    --grace 0 only when no reducer runs.

    \b
    Examples:
      fedn store gc
      fedn store gc --delete
    """
    from fedn.stores.collecting import collect

    now = time.time()
    with opened(places, write=delete) as (state, models), bars(as_json) as told:
        report = collect(state, models, now, grace=grace, delete=delete, told=told)
        if delete and report.blobs:
            note = noted("blobs_collected", "models", blobs=report.blobs, bytes=report.bytes)
            state.identity.append_audit(note)
    if as_json:
        screen.put_json(asdict(report))
        return
    what = f"{screen.counted(report.blobs, 'unreferenced blob')} of {screen.bytes_of(report.bytes)}"
    click.echo(f"Removed {what}." if delete else f"Found {what}.")
    if report.recent:
        left = screen.counted(report.recent, "unreferenced blob")
        screen.note(f"Left alone: {left} written in the last {grace:g} seconds.")
    if report.blobs and not delete:
        screen.note("Nothing was removed; --delete removes them.")


@store.command("delete-session", short_help="Remove a session that is over.")
@click.argument("session_id", metavar="SESSION")
@click.option("--yes", is_flag=True, help="Don't ask.")
@on_stores
def delete_session(session_id: str, yes: bool, places: Places, as_json: bool) -> None:
    """Remove a session that is over: its records, its metrics, and its models that nothing else names.

    This can't be taken back, and nobody can verify that session any more. The audit log says that it was
    removed. Seed models stay in the list of models.

    \b
    Examples:
      fedn store delete-session 3f2a
      fedn store delete-session 3f2a -c settings-reducer.yaml --yes
    """
    from fedn.cli.rest_client import only
    from fedn.domain.ids import SessionId
    from fedn.stores.forgetting import drop_session
    from fedn.stores.retention import GRACE_SECONDS

    with opened(places, write=True) as (state, models):
        ids = [info.session for info in state.sessions()]
        session = SessionId(only("session", session_id, ids, "fedn session list"))
        info = state.session(session)
        if not yes:
            confirm(f"Remove session {session} ({info.name}) with {info.head.round} rounds for good?")
        note = noted("session_removed", session, head=info.head.record)
        now = time.time()
        report = drop_session(state, models, session, now - GRACE_SECONDS, note, now)
    if as_json:
        screen.put_json(asdict(report))
        return
    freed = f"{screen.counted(report.blobs, 'blob')} of {screen.bytes_of(report.bytes)}"
    click.echo(f"Removed session {session}: {screen.counted(report.records, 'record')}, {freed}.")
    if report.kept:
        screen.note(
            f"{screen.counted(report.kept, 'blob')} of it stay: named elsewhere, gone, or very young."
        )


@store.command("forget-client", short_help="Remove a client's metrics, events and name.")
@click.argument("client")
@click.option("--yes", is_flag=True, help="Don't ask.")
@on_stores
def forget_client(client: str, yes: bool, places: Places, as_json: bool) -> None:
    """Remove what a client reported and is called: its metrics in every session, its events, its name and
    labels.

    Its id stays in the records and in the audit log, which are chained and are not rewritten; there it is a
    pseudonym without a name. What its updates did to the models stays in the models. Stop or revoke the
    client first, or it reports again.

    \b
    Examples:
      fedn store forget-client 6ad1c3e8
      fedn store forget-client 6ad1c3e8 -c settings-reducer.yaml --yes
    """
    from fedn.domain.ids import ClientId, check_id
    from fedn.stores import forgetting

    known = ClientId(check_id("client", client))
    with opened(places, write=True) as (state, _):
        if not yes:
            confirm(f"Remove the metrics, events, name and labels of client {known} for good?")
        report = forgetting.forget_client(state, known, noted("client_forgotten", known))
    if as_json:
        screen.put_json(asdict(report))
        return
    also = ", its name and its labels" if report.named else ""
    rows = f"{screen.counted(report.metrics, 'metric row')} and {screen.counted(report.events, 'event')}"
    click.echo(f"Removed {rows} of {known}{also}.")


@store.command(short_help="Move a network, or back it up.")
@click.option("-c", "--config", "settings", type=FILE, help="Settings file of the reducer to copy from.")
@click.option("--from-state", metavar="URL", help="State store to copy from, instead of the settings'.")
@click.option("--from-models", metavar="URL", help="Model store to copy from, instead of the settings'.")
@click.option("--to-config", type=FILE, help="Settings file of the reducer to copy to.")
@click.option("--to-state", metavar="URL", help="State store to copy to; made if it is not there.")
@click.option("--to-models", metavar="URL", help="Model store to copy to; made if it is not there.")
@json_option
def copy(
    settings: Path | None, from_state: str | None, from_models: str | None, to_config: Path | None,
    to_state: str | None, to_models: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Copy a whole network to other stores, and verify every trail and the audit log on both sides.

    For moving from one machine's files to MongoDB and S3 or back, and for backups. Run it again after a
    break, or to bring a copy up to date: what is there is not copied again. The target must be empty or a
    copy of this network. Exit code 1 if something is damaged or missing, on either side.

    The password and the keys of the target may be its own: they are looked for in the same variables with
    FEDN_TO_ in place of FEDN_, such as FEDN_TO_MONGO_PASSWORD_FILE and FEDN_TO_S3_SECRET_KEY.

    While it copies it leads the target as a reducer would: it refuses one that a reducer leads.

    Beside a running reducer the copy has every session as it was at one of its commits. To move, stop the
    reducer first, copy, and start it on the new stores: two reducers would each go their own way.

    \b
    Examples:
      fedn store copy -c settings-reducer.yaml --to-state sqlite:////backup/state.db \\
          --to-models file:///backup/models
      fedn store copy -c settings-reducer.yaml --to-config settings-mongo.yaml
    """
    from fedn.reducer.metrics import pages
    from fedn.stores.copying import Stores, copy_network

    source = places_of(settings, from_state, from_models, "from-")
    if to_config is None and (to_state is None or to_models is None):
        raise InvalidInput("--to-state", "is missing, or --to-models", "say where to copy to with both")
    target = places_of(to_config, to_state, to_models, "to-", environ={})  # the environment is the source's
    check_kept(target)
    if place(source.state) == place(target.state) or place(source.models) == place(target.models):
        raise InvalidInput("--to-state", "is where it is copied from", "name other stores, both of them")
    with (
        opened(source, write=False) as (state, models),
        opened(target, write=True, create=True, environ=of_target()) as (new_state, new_models),
        bars(as_json) as told,
    ):
        one, other = Stores(state, models), Stores(new_state, new_models)
        copied = copy_network(one, other, pages, told)
        verdicts = [*_verified("source", one, told), *_verified("target", other, told)]
    _print_copy(asdict(copied), verdicts, as_json)


def _verified(side: str, stores: Stores, told: Told) -> list[dict[str, Any]]:
    """What every trail and the audit log are like."""
    from fedn.identity.audit import verify_audit
    from fedn.stores.trail import verify_trail

    found: list[dict[str, Any]] = []
    for info in stores.state.sessions():
        name = f"verifying {info.session} ({side})"
        report = verify_trail(stores.state, stores.models, info.session, partial(told, name))
        found.append({"side": side, "session": info.session, "ok": report.ok, "rounds": report.rounds,
                      "head": report.head, "pruned": report.pruned, "problems": report.problems})  # fmt: skip
    audit = verify_audit(stores.state.identity)
    found.append({"side": side, "session": "", "ok": audit.ok, "rounds": audit.entries, "head": audit.head,
                  "pruned": 0, "problems": (audit.problem,) if audit.problem else ()})  # fmt: skip
    return found


def _print_copy(copied: dict[str, Any], verdicts: list[dict[str, Any]], as_json: bool) -> None:
    ok = all(each["ok"] for each in verdicts) and not copied["problems"]
    if as_json:
        screen.put_json({"ok": ok, "copied": copied, "verified": verdicts})
    else:
        what = [screen.counted(copied[name], name[:-1]) for name in ("sessions", "records", "blobs")]
        click.echo(f"Copied {', '.join(what)} ({screen.bytes_of(copied['bytes'])}); "
                   f"{copied['there']} blobs were there already.")  # fmt: skip
        rows = [
            (each["side"], each["session"] or "audit log", each["rounds"], each["head"][:16],
             "whole" if each["ok"] else " ".join(each["problems"]))
            for each in verdicts
        ]  # fmt: skip
        screen.table(("Side", "What", "Entries", "Head", "Verified"), rows, "")
        for problem in copied["problems"]:
            click.secho(screen.clean(problem), fg="red")
    if not ok:
        raise SystemExit(1)
