"""Stores: where a URL from the settings becomes a StateStore or a ModelStore.

Paths are taken literally, as typed: no percent-decoding, no ``~``, no options behind a ``?``.
(Addresses of services are not paths, and have options.)

    state    sqlite:///fedn.db           relative to the working directory (three slashes)
             sqlite:////var/fedn.db      absolute (four slashes, as in SQLAlchemy)
             mongodb://user@host:27017/fedn                   see `fedn.stores.mongo_url`
             memory://                   gone with the process
    models   file:models                 relative to the working directory (no slashes)
             file:///var/models          absolute (three slashes, as in RFC 8089)
             s3://bucket/prefix?endpoint=https://host:port    see `fedn.stores.s3_url`
             memory://                   gone with the process

Neighbours: `fedn.ports` has the Protocols, `fedn.stores.trail` verifies what is kept here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from fedn.domain.errors import InvalidConfig
from fedn.domain.urls import shown
from fedn.ports import ModelStore, StateStore

_STATE_SCHEMES = "known are mongodb://host/database, sqlite:///relative, sqlite:////absolute and memory://"
_MODEL_SCHEMES = "known are s3://bucket/prefix, file:relative, file:///absolute and memory://"


def open_state(
    url: str, *, read_only: bool = False, current: bool = False, environ: Mapping[str, str] = os.environ
) -> StateStore:
    """Open the state store at ``url``, creating it unless ``read_only``.

    Read-only is for tools beside a running reducer: it creates nothing and every write raises
    StoreUnavailable. With ``current`` it refuses an older schema; opened to be written that takes the steps
    it lacks, which a tool leaves to the reducer. Passwords and keys are looked for in ``environ``.

    Raises:
        InvalidConfig: naming ``state_store``, for a URL of no known form, and what only a person can mend.
        NotFound: read-only, and there is nothing at that path.
        Incompatible: what is there was written by a newer fedn, or by one that is too old.
        StoreUnavailable: the server does not answer.
    """
    if url == "memory://":
        from fedn.stores.memory import MemoryState

        return MemoryState()
    if url.startswith("sqlite:"):
        from fedn.stores.schema import SCHEMA_VERSION
        from fedn.stores.sqlite import SqliteState  # sqlite3 is loaded only by those who use it

        oldest = SCHEMA_VERSION if current else 1
        return SqliteState(_sqlite_path(url), read_only=read_only, oldest=oldest)
    if url.startswith("mongodb:"):
        return _mongo(url, read_only, environ)
    raise InvalidConfig("state_store", f"{shown(url)[:200]!r} has no known scheme", _STATE_SCHEMES)


def open_models(url: str, *, read_only: bool = False, environ: Mapping[str, str] = os.environ) -> ModelStore:
    """Open the model store at ``url``, creating it unless ``read_only``, with keys from ``environ``.

    Raises:
        InvalidConfig: naming ``model_store``, for a URL of no known form, and what only a person can mend.
        NotFound: read-only, and there is nothing at that path.
        StoreUnavailable: the service does not answer.
    """
    if url == "memory://":
        from fedn.stores.memory import MemoryModels

        return MemoryModels()
    if url.startswith("file:"):
        from fedn.stores.files import FileModels

        return FileModels(_file_path(url), read_only=read_only)
    if url.startswith("s3:"):
        return _s3(url, read_only, environ)
    raise InvalidConfig("model_store", f"{shown(url)[:200]!r} has no known scheme", _MODEL_SCHEMES)


def _mongo(url: str, read_only: bool, environ: Mapping[str, str]) -> StateStore:
    try:
        from fedn.stores.mongo import MongoState
    except ModuleNotFoundError as error:
        if error.name not in ("bson", "pymongo"):
            raise
        raise InvalidConfig(
            "state_store",
            "is in MongoDB, and its driver pymongo is not installed",
            "install fedn with its extra `mongo`",
        ) from None
    return MongoState(url, read_only=read_only, environ=environ)


def _s3(url: str, read_only: bool, environ: Mapping[str, str]) -> ModelStore:
    try:
        from fedn.stores.s3 import open_s3
    except ModuleNotFoundError as error:
        if error.name != "minio":
            raise
        raise InvalidConfig(
            "model_store", "is in S3, and minio's client is not installed", "install fedn with its extra `s3`"
        ) from None
    return open_s3(url, read_only=read_only, environ=environ)


def _sqlite_path(url: str) -> Path:
    path = url.removeprefix("sqlite:///")
    if path == url or not path or path == ":memory:" or "?" in path:
        raise InvalidConfig("state_store", f"{url[:200]!r} names no file", _STATE_SCHEMES)
    return Path(path)


def _file_path(url: str) -> Path:
    path = url.removeprefix("file:")
    absolute = path.startswith("///")
    path = path.removeprefix("//") if absolute else path
    if not path.strip("/") or (path.startswith("/") and not absolute) or "?" in path:
        raise InvalidConfig("model_store", f"{url[:200]!r} names no directory", _MODEL_SCHEMES)
    return Path(path)


__all__ = ["open_models", "open_state"]
