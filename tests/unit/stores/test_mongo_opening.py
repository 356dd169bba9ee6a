"""Servers and databases that a state store can't be opened on, and those that ask who comes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest
from mongod import PASSWORD, ROOT, Mongod, MongoSet, replica_set, until, with_login
from ports import settled_port
from pymongo import IndexModel

from fedn.domain.errors import Incompatible, InvalidConfig, LoginRefused, StoreUnavailable
from fedn.domain.ids import SessionId
from fedn.identity.authority import Authority
from fedn.stores import open_state
from fedn.stores.memory import MemoryModels
from fedn.stores.mongo import MongoState
from fedn.stores.mongo_schema import STEPS
from fedn.testing.contracts.samples import build_trail

MNIST = SessionId("mnist")
SECRET = quote(PASSWORD, safe="")


@pytest.fixture(scope="module")
def mongo() -> Iterator[MongoSet]:
    with replica_set() as made:
        yield made


@pytest.fixture(scope="module")
def locked() -> Iterator[MongoSet]:
    with with_login() as made:
        yield made


def contents(mongo: MongoSet, database: str) -> object:
    with mongo.client() as client:
        return {
            name: list(client[database][name].find()) for name in client[database].list_collection_names()
        }


# --- whose database, and how old


def test_a_newer_schema_is_refused_and_not_touched(mongo: MongoSet):
    url = mongo.url("newer")
    MongoState(url).close()
    with mongo.client() as client:
        client["newer"]["fedn"].update_one({"_id": "schema"}, {"$set": {"version": 99}})
    before = contents(mongo, "newer")
    for read_only in (False, True):
        with pytest.raises(
            Incompatible, match=r"schema version 99, this fedn knows up to \d+: use a newer fedn"
        ):
            open_state(url, read_only=read_only)
    assert contents(mongo, "newer") == before


def test_an_older_schema_takes_the_steps_it_lacks_and_keeps_the_rest(mongo: MongoSet):
    url, models = mongo.url("older"), MemoryModels()
    with closing(MongoState(url)) as state:
        trail = build_trail(state, models)
    newer = (*STEPS, {"wishes": [IndexModel("wish")]})
    with pytest.raises(Incompatible, match="start this fedn's reducer"):
        MongoState(url, read_only=True, steps=newer)
    for _ in range(2):
        with closing(MongoState(url, steps=newer)) as state:
            assert state.records(MNIST) == trail
            assert state.take_term() > 1
    with mongo.client() as client:
        assert client["older"]["fedn"].find_one({"_id": "schema"})["version"] == len(newer)
        assert "wish_1" in client["older"]["wishes"].index_information()
    with pytest.raises(Incompatible, match="use a newer fedn"):
        MongoState(url)


def test_a_step_that_broke_off_is_taken_again(mongo: MongoSet):
    url = mongo.url("halfway")
    with mongo.client() as client:  # as it is left by who died in the middle of the first step
        client["halfway"]["fedn"].insert_one({"_id": "schema", "version": 0})
        client["halfway"]["records"].create_index("elsewhere")
    with closing(MongoState(url)) as state:
        build_trail(state, MemoryModels())
        assert state.session(MNIST).head.round == 3


def test_another_programs_database_is_refused_and_not_touched(mongo: MongoSet):
    with mongo.client() as client:
        client["shop"]["sessions"].insert_one({"_id": 1})
        client["store"]["fedn"].insert_one({"_id": "schema", "kind": "ours"})
    for name in ("shop", "store"):
        before = contents(mongo, name)
        with pytest.raises(InvalidConfig, match="belongs to another program — name another database"):
            open_state(mongo.url(name))
        assert contents(mongo, name) == before


# --- servers


def test_a_server_that_stands_alone_is_refused():
    with replica_set(0) as made, pytest.raises(InvalidConfig, match=r"stands alone.*--replSet") as caught:
        open_state(made.url())
    assert caught.value.details["field"] == "state_store"


def test_a_server_that_does_not_answer_is_named(tmp_path: Path):
    server = Mongod(tmp_path, settled_port(), "--replSet", "rs0")
    made = MongoSet([server])
    url = f"mongodb://me:{SECRET}@{server.address}/net?serverSelectionTimeoutMS=300"
    with pytest.raises(
        StoreUnavailable, match=rf"net at {server.address} did not answer: .*refused"
    ) as nobody:
        open_state(url)
    try:
        server.start()
        until(lambda: made._answers(server))
        with pytest.raises(StoreUnavailable, match=r"has not begun; run rs\.initiate") as begun:
            open_state(url)
        made.begin()
        with pytest.raises(StoreUnavailable, match="none of its servers is of the replica set") as other:
            open_state(f"{url}&replicaSet=rs1")
    finally:
        server.kill()
    assert not any(
        PASSWORD in str(error.value) or SECRET in str(error.value) for error in (nobody, begun, other)
    )


def test_who_logs_in_wrongly_is_told_so(locked: MongoSet):
    for login in (f"{ROOT}:wrong@", "nobody:wrong@"):
        with pytest.raises(
            LoginRefused, match=r"refused the user .*check user, password and authSource"
        ) as caught:
            open_state(locked.url("net", login))
        assert "wrong" not in str(caught.value)
    with pytest.raises(InvalidConfig, match="does not let anybody without a login do this"):
        open_state(locked.url("net"))


def test_who_may_only_read_is_told_so_at_the_start(locked: MongoSet, monkeypatch: pytest.MonkeyPatch):
    with closing(open_state(locked.url("kept", f"{ROOT}:{SECRET}@"))) as state:
        term = state.take_term()
    monkeypatch.setenv("FEDN_MONGO_PASSWORD", PASSWORD)
    reader = locked.url("kept", "reader@")
    with pytest.raises(
        InvalidConfig, match=r"does not let the user 'reader' do this.*role readWrite on kept"
    ) as caught:
        open_state(reader)
    assert PASSWORD not in str(caught.value)
    with closing(open_state(reader, read_only=True)) as state:
        assert state.newest_term() == term


def test_a_server_that_asks_for_tls_gets_it(tmp_path: Path):
    authority, other = Authority.create("stores", time.time()), Authority.create("others", time.time())
    held = authority.issue_reducer((), time.time(), 3600.0)
    for name, pem in (("ca", authority.certificate), ("other", other.certificate),
                      ("server", held.certificate + held.key)):  # fmt: skip
        (tmp_path / name).write_bytes(pem)
    tls = ("--tlsMode", "requireTLS", "--tlsCertificateKeyFile", str(tmp_path / "server"), "--tlsCAFile",
           str(tmp_path / "ca"), "--tlsAllowConnectionsWithoutCertificates")  # fmt: skip
    quick = "?serverSelectionTimeoutMS=500"
    with replica_set(flags=tls, tls=True, tlsCAFile=str(tmp_path / "ca")) as made:
        with closing(open_state(f"{made.url('net')}?tls=true&tlsCAFile={tmp_path / 'ca'}")) as state:
            assert state.take_term() == 1
        with pytest.raises(StoreUnavailable, match=r"certificate verify failed.*tlsCAFile"):
            open_state(f"{made.url('net')}{quick}&tls=true&tlsCAFile={tmp_path / 'other'}")
        with pytest.raises(StoreUnavailable, match=r"connection closed; does it want tls=true"):
            open_state(f"{made.url('net')}{quick}")
