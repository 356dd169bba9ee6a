"""A fresh MongoDB server becomes one that fedn can use: a replica set, an administrator, the reducer's login.

The containers' `mongo-init` calls it, from the server's own loopback: that is where MongoDB takes the first
administrator from somebody who has no login yet. What is there already is left as it is.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from fedn.domain.errors import Forbidden, LinkBroken, Unauthenticated

ALREADY_INITIALIZED, UNAUTHORIZED, BAD_LOGIN, USER_EXISTS = 23, 13, 18, 51003
ANSWER_SECONDS = 5.0
PRIMARY_SECONDS = 60.0
LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Login:
    """A user's name and password."""

    user: str
    password: str = field(repr=False)


def prepare_server(address: str, member: str, admin: Login, user: Login, database: str) -> None:
    """Make the server at ``address`` a replica set of one, called ``member``, with both logins.

    ``user`` may read and write ``database`` alone; its password is set anew each time. Raises LinkBroken,
    Unauthenticated for another administrator's password, and Forbidden where nobody may log in yet.
    """
    try:
        with _client(address) as client:
            _initiate(client, member)
            _wait_for_primary(client, address)
            _add_first(client, admin)
        with _client(address, admin) as client:
            _set_user(client, user, database)
    except OperationFailure as error:
        if error.code == BAD_LOGIN:
            text = f"{address} has an administrator {admin.user}, and its password is another"
            raise Unauthenticated(f"{text}: give the one that it was made with") from None
        raise Forbidden(f"{address} refuses to be prepared: {error.details or error}") from None
    except PyMongoError as error:
        raise LinkBroken(f"no MongoDB server answers at {address} ({error!s:.200})") from None


def _client(address: str, login: Login | None = None) -> MongoClient[dict[str, Any]]:
    known: dict[str, Any] = {}
    if login:
        known = {"username": login.user, "password": login.password, "authSource": "admin"}
    return MongoClient(
        f"mongodb://{address}", directConnection=True,
        serverSelectionTimeoutMS=int(ANSWER_SECONDS * 1000), **known,
    )  # fmt: skip


def _initiate(client: MongoClient[dict[str, Any]], member: str) -> None:
    members = {"_id": "rs0", "members": [{"_id": 0, "host": member}]}
    try:
        client.admin.command("replSetInitiate", members)
    except OperationFailure as error:
        if error.code not in (ALREADY_INITIALIZED, UNAUTHORIZED):  # who may not ask any more, asked before
            raise


def _wait_for_primary(client: MongoClient[dict[str, Any]], address: str) -> None:
    until = time.monotonic() + PRIMARY_SECONDS
    while not client.admin.command("hello").get("isWritablePrimary"):
        if time.monotonic() > until:
            raise LinkBroken(f"{address} did not become the primary of its replica set; its log says why")
        time.sleep(LOOK_SECONDS)


def _add_first(client: MongoClient[dict[str, Any]], admin: Login) -> None:
    """The first user of all, which loopback may add; there is no second time."""
    try:
        client.admin.command("createUser", admin.user, pwd=admin.password, roles=["root"])
    except OperationFailure as error:
        if error.code not in (UNAUTHORIZED, USER_EXISTS):
            raise


def _set_user(client: MongoClient[dict[str, Any]], user: Login, database: str) -> None:
    rights: dict[str, Any] = {"pwd": user.password, "roles": [{"role": "readWrite", "db": database}]}
    try:
        client[database].command("createUser", user.user, **rights)
    except OperationFailure as error:
        if error.code != USER_EXISTS:
            raise
        client[database].command("updateUser", user.user, **rights)
