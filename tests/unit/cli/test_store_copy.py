"""`fedn store copy` into a MongoDB: with a login of its own, and not into the source or beside a reducer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest
from mongod import PASSWORD, ROOT, MongoSet, with_login

from fedn.cli.store_places import of_target
from fedn.stores import open_state
from fedn.stores.files import FileModels
from fedn.stores.sqlite import SqliteState
from fedn.testing.contracts.samples import build_trail

OTHER = "copier"


@pytest.fixture(scope="module")
def mongo() -> Iterator[MongoSet]:
    with with_login() as made:
        with made.client(made.servers[0], username=ROOT, password=PASSWORD) as client:
            roles = [{"role": "readWrite", "db": "there"}]
            client.admin.command("createUser", OTHER, pwd="another password", roles=roles)
        yield made


@pytest.fixture
def kept(tmp_path: Path) -> tuple[str, ...]:
    with closing(SqliteState(tmp_path / "state.db")) as state:
        build_trail(state, FileModels(tmp_path / "models"), rounds=2)
    return "--from-state", f"sqlite:///{tmp_path}/state.db", "--from-models", f"file://{tmp_path}/models"


def test_a_target_has_a_login_of_its_own_and_one_leader(
    alone, mongo: MongoSet, kept: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    here = ("--to-state", mongo.url("here", f"{ROOT}@"), "--to-models", f"file://{tmp_path}/here")
    there = ("--to-state", mongo.url("there", f"{OTHER}@"), "--to-models", f"file://{tmp_path}/there")
    monkeypatch.setenv("FEDN_MONGO_PASSWORD", PASSWORD)
    assert alone.json("store", "copy", *kept, *here)["ok"]
    source = tuple(arg.replace("--to-", "--from-") for arg in here)
    assert "refused the user 'copier'" in alone.refused(2, "store", "copy", *source, *there)
    monkeypatch.setenv("FEDN_TO_MONGO_PASSWORD", "another password")
    report = alone.json("store", "copy", *source, *there)
    assert (report["ok"], report["copied"]["records"]) == (True, 3)

    # The same database by another name of its server, which no comparison of addresses sees.
    monkeypatch.delenv("FEDN_TO_MONGO_PASSWORD")
    again = ("--to-state", here[1].replace("127.0.0.1", "localhost"), *there[2:])
    said = alone.refused(1, "store", "copy", *source, *again)
    assert "the target's state store is the source's, by another name" in said

    secret = quote(PASSWORD, safe="")
    with closing(open_state(mongo.url("here", f"{ROOT}:{secret}@"))) as state:
        state.leadership.take("a reducer", 600.0)
        assert "a reducer leads the target" in alone.refused(1, "store", "copy", *kept, *here)


def test_what_is_the_targets_own_comes_all_from_its_own_variables():
    shared = {
        "FEDN_MONGO_USER": "a",
        "FEDN_MONGO_PASSWORD_FILE": "/a",
        "FEDN_S3_ACCESS_KEY": "k",
    }
    assert of_target(shared) == shared
    own = {"FEDN_TO_MONGO_PASSWORD": "b", "FEDN_TO_S3_SECRET_KEY": ""}
    assert of_target(shared | own) == own | {
        "FEDN_MONGO_PASSWORD": "b", "FEDN_S3_ACCESS_KEY": "k",
    }  # fmt: skip
