"""The settings of a reducer: ``settings-reducer.yaml``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar, Self

from pydantic import ByteSize, field_serializer, model_validator

from fedn.config.base import Listener, setting
from fedn.config.checks import check_insecure, check_listen, check_networks, check_prefix
from fedn.domain.errors import InvalidConfig
from fedn.domain.urls import shown


class ReducerSettings(Listener):
    """The reducer: REST API, control loop and model trail."""

    tier: ClassVar[str] = "reducer"

    port: int = setting(8090, "Port of the REST API and the web UI; 0 for any.", ge=0, le=65535)
    state_store: str = setting(
        "sqlite:///fedn-data/reducer/state.db",
        "Where sessions, trail and metrics are "
        "kept: sqlite:///relative/path, sqlite:////absolute/path, mongodb://user@host/database (the password "
        "as FEDN_MONGO_PASSWORD or FEDN_MONGO_PASSWORD_FILE) or memory:// (gone at exit).",
        min_length=1,
        repr=False,
    )
    model_store: str = setting(
        "file:fedn-data/reducer/models",
        "Where models are kept: file:relative/path, file:///absolute/path, "
        "s3://bucket/prefix?endpoint=https://host:port or memory:// (gone at exit).",
        min_length=1,
        repr=False,
    )
    max_model_bytes: ByteSize = setting(
        4 * 2**30, "Largest model that may be seeded, in bytes or as '4GiB'.", gt=0
    )
    event_streams: int = setting(32, "Live event streams at once; fewer than http_threads.", ge=1, le=1000)
    events_kept: int = setting(
        100_000,
        "Events that are kept in the state store; the oldest of more are dropped.",
        ge=1000,
        le=1_000_000,
    )
    http_threads: int = setting(48, "Threads that answer HTTP requests.", ge=2, le=1000)
    command_queue: int = setting(256, "Commands that may wait for the control loop.", ge=1, le=100_000)
    combiner_grace: float = setting(
        3.0, "Seconds that an unreachable combiner is given before its round is fenced.", gt=0, le=3600
    )
    client_grace: float = setting(
        5.0, "Seconds that clients of a lost combiner are given to reappear.", gt=0, le=3600
    )
    lease_seconds: float = setting(
        5.0,
        "Seconds that this reducer leads unless it renews; a standby on the same stores takes over then.",
        ge=0.5,
        le=600,
    )
    standby_file: str = setting(
        "", "File that says, while this reducer stands by, that it does, for `fedn health`; empty for none."
    )
    network_dir: str = setting(
        "", "Folder that `fedn network init` made; empty for a network without identity."
    )
    certificate_hours: float = setting(
        24.0, "Hours that a certificate of a client or combiner lives; it is renewed halfway.", gt=0, le=8760
    )
    https_certificate: str = setting(
        "",
        "PEM file of a certificate that browsers know already, with its chain; empty for the network's own.",
    )
    https_key: str = setting("", "PEM file of the key of https_certificate.")
    host_names: Sequence[str] = setting(
        [],
        "Names with a dot by which a network without identity is reached (insecure_no_tls_no_auth); "
        "addresses, and names without a dot, need not be listed.",
        max_length=32,
    )
    observers: Sequence[str] = setting(
        [],
        "Where sessions are told of, too, as name:location: tensorboard:FOLDER, or mlflow: and the address "
        "or folder of a tracking store; none for nowhere.",
        max_length=8,
    )

    path_prefix: str = setting("", "Path under which a proxy offers this reducer, as /fedn; empty for none.")
    trusted_proxies: int = setting(
        0, "Proxies in a row whose X-Forwarded-For, -Proto, -Host and -Prefix are believed.", ge=0, le=8
    )
    proxy_networks: Sequence[str] = setting(
        ["127.0.0.0/8", "::1/128"], "Networks that the nearest trusted proxy calls from.", max_length=32
    )

    @field_serializer("state_store", "model_store")
    def _shown(self, url: str) -> str:
        return shown(url)

    @model_validator(mode="after")
    def _told(self) -> Self:
        for observer in self.observers:
            if not re.fullmatch(r"[\w.-]+:.+", observer):
                remedy = "give name:location, such as tensorboard:runs"
                raise InvalidConfig("observers", f"{observer!r} names no location", remedy)
        return self

    @model_validator(mode="after")
    def _identity(self) -> Self:
        check_insecure(self, bool(self.network_dir))
        check_listen(self, bool(self.network_dir), "give network_dir, which `fedn network init` makes")
        if bool(self.https_certificate) != bool(self.https_key):
            missing = "https_key" if self.https_certificate else "https_certificate"
            raise InvalidConfig(missing, "is missing", "https_certificate and https_key go together")
        if self.https_certificate and not self.network_dir:
            raise InvalidConfig("https_certificate", "needs network_dir", "make one with `fedn network init`")
        return self

    @model_validator(mode="after")
    def _proxies(self) -> Self:
        check_prefix("path_prefix", self.path_prefix)
        check_networks("proxy_networks", self.proxy_networks)
        return self

    @model_validator(mode="after")
    def _threads_left(self) -> Self:
        if self.event_streams >= self.http_threads:
            raise InvalidConfig(
                "event_streams",
                f"{self.event_streams} streams would take all {self.http_threads} http_threads",
                "lower event_streams or raise http_threads",
            )
        return self
