"""A fresh MongoDB server is made ready, as the containers do it: over loopback, and again without harm."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from mongod import Mongod, until
from ports import settled_port
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from fedn.domain.errors import LinkBroken, Unauthenticated
from fedn.stores.mongo_server import Login, prepare_server

ADMIN, USER = Login("admin", "a dmin/:@"), Login("fedn", "u ser/:@")


@pytest.fixture
def server(tmp_path: Path):
    key = tmp_path / "key"
    key.touch(0o600)
    key.write_text(os.urandom(48).hex())
    made = Mongod(tmp_path / "data", settled_port(), "--replSet", "rs0", "--keyFile", str(key))
    made.start()
    yield made
    made.kill()


def prepare(server: Mongod, admin: Login = ADMIN, user: Login = USER) -> None:
    prepare_server(server.address, server.address, admin, user, "fedn")


def login(server: Mongod, user: Login) -> MongoClient:
    return MongoClient(f"mongodb://{server.address}/fedn", username=user.user, password=user.password,
                       replicaSet="rs0")  # fmt: skip


def test_a_server_is_made_ready_once_and_the_logins_password_can_change(server: Mongod) -> None:
    until(lambda: prepared(server))
    prepare(server)
    with login(server, USER) as client:
        with client.start_session() as session, session.start_transaction():
            client.fedn.things.insert_one({"a": 1}, session=session)
        with pytest.raises(OperationFailure, match="not authorized"):
            client.other.things.insert_one({"a": 1})
    prepare(server, user=Login("fedn", "another"))
    with login(server, Login("fedn", "another")) as client:
        assert client.fedn.things.count_documents({}) == 1
    with pytest.raises(Unauthenticated, match="give the one that it was made with"):
        prepare(server, admin=Login("admin", "wrong"))


def prepared(server: Mongod) -> bool:
    try:
        prepare(server)
    except LinkBroken:  # it has only just been started
        return False
    return True


def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(LinkBroken, match=r"127\.0\.0\.1:9"):
        prepare_server("127.0.0.1:9", "mongo:27017", ADMIN, USER, "fedn")


def test_no_password_is_in_a_repr() -> None:
    assert ADMIN.password not in repr(ADMIN)
