"""`fedn store` and `fedn trail prune` on real stores: what they print, what they refuse, what is left."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlite_files import run_raw

from fedn.domain.ids import ClientId, SessionId
from fedn.ports import MetricRow
from fedn.stores.files import FileModels
from fedn.stores.schema import SCHEMA_VERSION
from fedn.stores.sqlite import SqliteState
from fedn.stores.trail import verify_trail
from fedn.testing.contracts.samples import build_trail

MNIST = SessionId("mnist")


@dataclass
class Kept:
    """The stores of a network with one session that is over, whose blobs are an hour old."""

    root: Path

    def __post_init__(self) -> None:
        with closing(SqliteState(self.root / "state.db")) as state:
            models = FileModels(self.root / "models")
            build_trail(state, models, rounds=6)
            state.set_session_state(MNIST, "finished", "", state.newest_term())
            values = [(number, 0.9 if number == 2 else 0.5) for number in range(1, 7)]
            rows = (
                MetricRow(MNIST, number, "validate", ClientId("client-0"), 10, {"accuracy": value})
                for number, value in values
            )
            state.add_metrics(rows, state.newest_term())
            models.put([b"loose"])
        for path in self.root.glob("models/??/*"):
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 7200))

    @property
    def state(self) -> str:
        return f"sqlite:///{self.root / 'state.db'}"

    @property
    def models(self) -> str:
        return f"file://{self.root / 'models'}"

    @property
    def at(self) -> tuple[str, ...]:
        return "--state", self.state, "--models", self.models

    def verify(self) -> tuple[bool, int, int]:
        with closing(SqliteState(self.root / "state.db")) as state:
            report = verify_trail(state, FileModels(self.root / "models"), MNIST)
            return report.ok, report.models, report.pruned


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    (tmp_path / "kept").mkdir()
    return Kept(tmp_path / "kept")


# --- prune ------------------------------------------------------------------------------------------


def test_prune_says_what_it_would_do_and_then_does_it(alone, kept: Kept):
    rule = ("--keep-last", 2, "--keep-best", *kept.at)
    assert "Would remove 4 models of 1 session" in alone.good("trail", "prune", *rule, "--dry-run")
    assert kept.verify() == (True, 7, 0)
    assert alone.json("trail", "prune", *rule)["models"] == 4
    assert kept.verify() == (True, 3, 4)
    assert "Removed 0 models" in alone.good("trail", "prune", *rule)
    verified = alone.good("trail", "verify", "mnist", *kept.at)
    assert "The models of 4 rounds between 0 and 4 were pruned on 20" in verified
    assert "is whole" in verified
    assert alone.json("trail", "verify", "mnist", *kept.at)["pruned"] == 4
    with closing(SqliteState(kept.root / "state.db")) as state:
        (entry,) = state.identity.audit()
    assert entry.entry.event == "models_pruned"
    assert entry.entry.details == {"models": 4, "keep_last": 2, "keep_every": 0}


def test_prune_wants_a_rule_and_an_existing_session(alone, kept: Kept):
    assert "keep-last" in alone.refused(2, "trail", "prune", *kept.at)
    assert "keep-last" in alone.refused(2, "trail", "prune", "--keep-last", 0, *kept.at)
    alone.refused(4, "trail", "prune", "--keep-last", 1, "--session", "nobody", *kept.at)
    assert kept.verify() == (True, 7, 0)


def test_prune_reads_where_the_stores_are_from_the_reducers_settings(alone, kept: Kept, tmp_path: Path):
    settings = tmp_path / "settings-reducer.yaml"
    settings.write_text(f"state_store: {kept.state}\nmodel_store: {kept.models}\n")
    assert alone.json("trail", "prune", "--keep-last", 6, "-c", settings)["models"] == 1


# --- check, stats, gc -------------------------------------------------------------------------------


def test_check_tries_both_stores(alone, kept: Kept):
    report = alone.json("store", "check", *kept.at)
    assert report["ok"]
    assert [each["what"] for each in report["checks"]] == [
        "open", "read sessions", "write", "open", "list blobs", "write", "read", "delete"]  # fmt: skip
    assert kept.verify() == (True, 7, 0)


def test_check_makes_nothing_unless_it_is_told_to(alone, tmp_path: Path):
    place = ("--state", f"sqlite:///{tmp_path}/new/state.db", "--models", f"file://{tmp_path}/new/models")
    result = alone("store", "check", *place)
    assert result.exit_code == 1
    assert "there is no state store at" in result.stdout
    assert "--create" in result.stderr
    assert not (tmp_path / "new").exists()
    assert alone.json("store", "check", "--create", *place)["ok"]
    assert alone.json("store", "check", *place)["ok"]


@pytest.mark.parametrize("command", [("check",), ("gc", "--delete")])
def test_only_a_reducer_brings_an_older_schema_forward(alone, kept: Kept, command: tuple[str, ...]):
    older = SCHEMA_VERSION - 1
    run_raw(kept.root / "state.db", f"PRAGMA user_version = {older}")
    result = alone("store", *command, *kept.at)
    assert result.exit_code != 0
    assert f"has schema version {older}" in " ".join(result.output.split())
    assert run_raw(kept.root / "state.db", "PRAGMA user_version") == [(older,)]


def test_check_tells_a_strangers_file(alone, kept: Kept):
    with closing(sqlite3.connect(kept.root / "other.db")) as other:
        other.execute("CREATE TABLE somebody_elses (x)")
    args = ("--state", f"sqlite:///{kept.root}/other.db", "--models", kept.models, "--json")
    result = alone("store", "check", *args)
    assert result.exit_code == 1
    failed = [each for each in json.loads(result.stdout)["checks"] if not each["ok"]]
    assert [(each["store"], "another program" in each["problem"]) for each in failed] == [("state", True)]


def test_stats_and_gc_count_and_remove_what_nobody_names(alone, kept: Kept):
    found = alone.json("store", "stats", *kept.at)
    assert (found["sessions"], found["records"], found["blobs"], found["unreferenced"]) == (1, 7, 8, 1)
    assert "5 B" in alone.good("store", "stats", *kept.at)
    assert "Found 1 unreferenced blob" in alone.good("store", "gc", *kept.at)
    assert alone.json("store", "gc", "--grace", 9000, *kept.at)["recent"] == 1
    assert "Removed 1 unreferenced blob" in alone.good("store", "gc", "--delete", *kept.at)
    assert alone.json("store", "stats", *kept.at)["unreferenced"] == 0
    assert kept.verify() == (True, 7, 0)


# --- removing and forgetting ------------------------------------------------------------------------


def test_a_session_is_deleted_for_good(alone, kept: Kept):
    assert "--yes" in alone.refused(2, "store", "delete-session", "mnist", *kept.at)
    assert kept.verify() == (True, 7, 0)
    assert alone.json("store", "delete-session", "mni", "--yes", *kept.at) == {
        "session": "mnist", "records": 7, "blobs": 7, "bytes": 175, "kept": 0}  # fmt: skip
    assert alone.json("store", "stats", *kept.at)["sessions"] == 0
    alone.refused(4, "store", "delete-session", "mnist", "--yes", *kept.at)


def test_a_session_that_goes_on_is_not_deleted(alone, kept: Kept):
    with closing(SqliteState(kept.root / "state.db")) as state:
        state.set_session_state(MNIST, "running", "", state.newest_term())
    assert "fedn session stop" in alone.refused(1, "store", "delete-session", "mnist", "--yes", *kept.at)
    assert kept.verify() == (True, 7, 0)


def test_a_client_is_forgotten(alone, kept: Kept):
    assert alone.json("store", "forget-client", "client-0", "--yes", *kept.at) == {
        "client": "client-0", "metrics": 6, "events": 0, "named": False}  # fmt: skip
    assert kept.verify() == (True, 7, 0)
    assert "no member" in alone.refused(4, "store", "forget-client", "client-0", "--yes", *kept.at)
    alone.refused(2, "store", "forget-client", "../client", "--yes", *kept.at)


def to(root: Path) -> tuple[str, ...]:
    return "--to-state", f"sqlite:///{root}/state.db", "--to-models", f"file://{root}/models"


# --- copy -------------------------------------------------------------------------------------------


def test_a_copy_is_verified_on_both_sides_and_can_be_a_backup(alone, kept: Kept, tmp_path: Path):
    backup = tmp_path / "backup"
    args = ("--from-state", kept.state, "--from-models", kept.models, *to(backup))
    report = alone.json("store", "copy", *args)
    assert report["ok"]
    assert report["copied"]["records"] == report["copied"]["blobs"] == 7
    assert [(each["side"], each["session"], each["ok"]) for each in report["verified"]] == [
        ("source", "mnist", True), ("source", "", True), ("target", "mnist", True), ("target", "", True),
    ]  # fmt: skip
    assert "Copied 1 session, 0 records, 0 blobs" in alone.good("store", "copy", *args)

    # Restored: the machine is lost, and the backup is copied to where the settings say.
    for path in sorted(kept.root.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    args = (*(arg.replace("--to-", "--from-") for arg in to(backup)), *to(kept.root))
    assert "whole" in alone.good("store", "copy", *args)
    assert kept.verify() == (True, 7, 0)
    with closing(SqliteState(kept.root / "state.db")) as state:
        assert len(state.metrics(MNIST)) == 6


def test_the_targets_settings_are_those_of_its_file_alone(
    alone, kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FEDN_REDUCER_STATE_STORE", kept.state)
    monkeypatch.setenv("FEDN_REDUCER_MODEL_STORE", kept.models)
    new = tmp_path / "new.yaml"
    new.write_text(
        f"state_store: sqlite:///{tmp_path}/new/state.db\nmodel_store: file://{tmp_path}/new/models\n"
    )
    assert alone.json("store", "copy", "--to-config", new)["copied"]["records"] == 7
    assert (tmp_path / "new" / "state.db").exists()


def test_a_copy_says_what_is_damaged(alone, kept: Kept, tmp_path: Path):
    for path in kept.root.glob("models/??/*"):
        path.write_bytes(b"other bytes")
    args = ("--from-state", kept.state, "--from-models", kept.models, *to(tmp_path / "backup"))
    result = alone("store", "copy", *args, "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert (report["ok"], len(report["copied"]["problems"])) == (False, 7)


def test_a_copy_is_not_made_into_itself_or_into_nowhere(alone, kept: Kept, tmp_path: Path):
    source = ("--from-state", kept.state, "--from-models", kept.models)
    new = f"sqlite:///{tmp_path}/new.db"
    for wrong in (
        ("--to-state", kept.state, "--to-models", f"file://{tmp_path}/m"),
        ("--to-state", new, "--to-models", kept.models),
        ("--to-state", kept.state.replace("/kept/", "/kept/../kept/"), "--to-models", f"file://{tmp_path}/m"),
        ("--to-state", new),
        ("--to-state", "memory://", "--to-models", "memory://"),
        (),
    ):
        alone.refused(2, "store", "copy", *source, *wrong)
    assert not (tmp_path / "new.db").exists()


# --- where they are ---------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["stats", "check", "gc"])
def test_no_password_is_taken_as_an_argument(alone, command: str):
    place = ("--state", "mongodb://fedn:hunter2@db:27017/fedn", "--models", "file:models")
    for words in (("store", command), ("trail", "prune", "--keep-last", 1), ("trail", "verify", "mnist")):
        said = alone.refused(2, *words, *place)
        assert "holds a password" in said
        assert "hunter2" not in said
    said = alone.refused(
        2, "store", command, "--state", "sqlite:///a.db", "--models", "s3://b?secret_key=hunter2"
    )
    assert "FEDN_S3_SECRET_KEY_FILE" in said
    assert "hunter2" not in said
    said = alone.refused(2, "audit", "verify", "--state", place[1])
    assert "FEDN_MONGO_PASSWORD_FILE" in said
    assert "hunter2" not in said


def test_what_is_not_there_is_not_made_by_mistake(alone, tmp_path: Path):
    place = ("--state", f"sqlite:///{tmp_path}/typo.db", "--models", f"file://{tmp_path}/models")
    for command in (("stats",), ("gc", "--delete"), ("forget-client", "c", "--yes")):
        assert "there is no state store" in alone.refused(4, "store", *command, *place)
    assert list(tmp_path.iterdir()) == []
    assert "--models" in alone.refused(2, "store", "stats", "--state", place[1])
    alone.refused(2, "store", "stats", "--state", "memory://", "--models", "memory://")


def test_a_long_trail_is_shown_in_pieces(fedn, service, small):
    session = small.seeded(service).session
    for _ in range(5):
        service.commit(session, 0.5)
    found = fedn.json("trail", "show", session, "--after", 1, "--limit", 2)
    assert [item["record"]["round"] for item in found["records"]] == [2, 3]
    assert found["session"] == session
    assert "seed" not in fedn.good("trail", "show", session, "--after", 0)
    assert fedn.json("trail", "show", session, "--after", 5)["records"] == []
