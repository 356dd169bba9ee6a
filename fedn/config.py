"""Settings of the three tiers: one frozen model per ``settings-*.yaml``, and how it is filled.

A value comes from the file, over it from the environment ``FEDN_<TIER>_<KEY>``, over that from a
flag. An unknown name or a wrong type is refused by name, with where it stands and what to do. The
command line makes its flags from these fields, and `fedn config show` its listing.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar
from urllib.parse import urlsplit

import yaml
from pydantic import (
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_serializer,
    model_validator,
)

from fedn.domain.errors import InvalidConfig, InvalidInput
from fedn.domain.hours import parse_hours
from fedn.domain.identity import TokenText, parse_token
from fedn.domain.ids import check_digest, check_id
from fedn.domain.plan import RESERVED, Scalar

INSECURE_FLAG = "--insecure-no-tls-no-auth"
HIDDEN = "***"
"""What is shown instead of a secret."""
SECRET_FILE_BYTES = 4096
LogLevel = Literal["debug", "info", "warning", "error"]
S = TypeVar("S", bound="Settings")


def _set(default: Any, doc: str, **bounds: Any) -> Any:
    """A field with its default, one sentence for people, and pydantic's bounds."""
    strict = False if isinstance(default, Path) else None  # paths come as text; everything else as it is
    return Field(default, description=doc, strict=strict, **bounds)


class Settings(BaseModel):
    """What every tier has. Frozen; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    tier: ClassVar[str] = ""

    log_level: LogLevel = _set("info", "Least level that is logged: debug, info, warning, error.")
    log_json: bool = _set(False, "Log one JSON object per line instead of plain text.")
    insecure_no_tls_no_auth: bool = _set(
        False, "INSECURE: speak with other machines, with neither encryption nor login."
    )

    @property
    def insecure(self) -> bool:
        """Whether this process may speak with other machines without encryption and login."""
        return self.insecure_no_tls_no_auth

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON form; a settings file with these values means the same."""
        return self.model_dump(mode="json")


class _Listener(Settings):
    """A tier that opens a port: on loopback, or with an identity, or loudly insecure."""

    host: str = _set("127.0.0.1", "Address to listen on.")


class _Joiner(Settings):
    """A tier that joins a network, by a token, and holds a certificate from then on."""

    reducer: str = _set("http://127.0.0.1:8090", "Address of the reducer; https:// where it asks who calls.")
    join: SecretStr = _set(SecretStr(""), "Token to join the network with, at the first start.")
    join_file: str = _set("", "File that holds the token to join with; FEDN_…_JOIN_FILE is this one, too.")
    ca_bundle: str = _set(
        "", "PEM file of authorities for a reducer's https certificate that is not of the network's own."
    )

    @field_serializer("join")
    def _hidden(self, secret: SecretStr) -> str:
        return HIDDEN if secret.get_secret_value() else ""

    @property
    def secured(self) -> bool:
        """Whether the reducer is one that asks who calls."""
        return self.reducer.startswith("https://")

    @property
    def plain_beyond(self) -> bool:
        """Whether the reducer is another machine, and spoken with in plain HTTP."""
        return not (self.secured or is_loopback(urlsplit(self.reducer).hostname or ""))

    def token(self) -> TokenText | None:
        """The token to join with; None if none was given. Raises InvalidConfig; never shows the text."""
        text = self.join.get_secret_value()
        if text or not self.join_file:
            return _token("join", text) if text else None
        return _token("join_file", read_secret("join_file", self.join_file))

    @model_validator(mode="after")
    def _joins(self) -> Self:
        check_url("reducer", self.reducer)
        if self.join.get_secret_value():
            if self.join_file:
                raise InvalidConfig("join", "is given beside join_file", "leave one of the two out")
            _token("join", self.join.get_secret_value())
        if (self.join.get_secret_value() or self.join_file) and not self.secured:
            problem = f"{self.reducer!r} is plain HTTP, on which everybody could read the token"
            raise InvalidConfig("reducer", problem, "give the https:// address of the network")
        check_insecure(self, self.secured)
        if self.plain_beyond and not self.insecure:
            raise InvalidConfig(
                "reducer",
                f"{self.reducer!r} is plain HTTP to another machine: anybody on the way can change it all",
                "give its https:// address and, for the first start, a token as --join-file; "
                f"or give {INSECURE_FLAG} if nobody else is on this network",
            )
        if self.ca_bundle:
            _beginning("ca_bundle", self.ca_bundle, 1)
        return self


class ReducerSettings(_Listener):
    """The reducer: REST API, control loop and model trail."""

    tier: ClassVar[str] = "reducer"

    port: int = _set(8090, "Port of the REST API and the status page; 0 for any.", ge=0, le=65535)
    state_store: str = _set(
        "sqlite:///fedn-data/reducer/state.db",
        "Where sessions, trail and metrics are "
        "kept: sqlite:///relative/path, sqlite:////absolute/path or memory:// (gone at exit).",
        min_length=1,
    )
    model_store: str = _set(
        "file:fedn-data/reducer/models",
        "Where models are kept: file:relative/path, file:///absolute/path or memory:// (gone at exit).",
        min_length=1,
    )
    max_model_bytes: ByteSize = _set(
        4 * 2**30, "Largest model that may be seeded, in bytes or as '4GiB'.", gt=0
    )
    event_streams: int = _set(32, "Live event streams at once; fewer than http_threads.", ge=1, le=1000)
    http_threads: int = _set(48, "Threads that answer HTTP requests.", ge=2, le=1000)
    command_queue: int = _set(256, "Commands that may wait for the control loop.", ge=1, le=100_000)
    combiner_grace: float = _set(
        3.0, "Seconds that an unreachable combiner is given before its round is fenced.", gt=0, le=3600
    )
    client_grace: float = _set(
        5.0, "Seconds that clients of a lost combiner are given to reappear.", gt=0, le=3600
    )
    network_dir: str = _set("", "Folder that `fedn network init` made; empty for a network without identity.")
    certificate_hours: float = _set(
        24.0, "Hours that a certificate of a client or combiner lives; it is renewed halfway.", gt=0, le=8760
    )
    https_certificate: str = _set(
        "",
        "PEM file of a certificate that browsers know already, with its chain; empty for the network's own.",
    )
    https_key: str = _set("", "PEM file of the key of https_certificate.")
    observers: Sequence[str] = _set(
        [],
        "Where sessions are told of, too, as name:location: tensorboard:FOLDER, or mlflow: and the address "
        "or folder of a tracking store; none for nowhere.",
        max_length=8,
    )

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
    def _threads_left(self) -> Self:
        if self.event_streams >= self.http_threads:
            raise InvalidConfig(
                "event_streams",
                f"{self.event_streams} streams would take all {self.http_threads} http_threads",
                "lower event_streams or raise http_threads",
            )
        return self


class CombinerSettings(_Listener, _Joiner):
    """A combiner: takes its clients' updates and folds them."""

    tier: ClassVar[str] = "combiner"

    name: str = _set("combiner", "Its name in the network; each combiner needs its own.")
    port: int = _set(12080, "Port for clients and the reducer; 0 for any.", ge=0, le=65535)
    advertise: str = _set("", "host:port that others are told to use; empty means host and port.")
    data_dir: Path = _set(Path("fedn-data/combiner"), "Folder for models and uploads; made if missing.")
    uploads_in_flight: int = _set(4, "Uploads taken at once; the others wait.", ge=1, le=256)
    fetches_in_flight: int = _set(16, "Models sent at once; the others wait.", ge=1, le=10_000)
    max_update_bytes: ByteSize = _set(4 * 2**30, "Largest update that is taken, in bytes or as '4GiB'.", gt=0)
    client_grace: float = _set(
        3.0,
        "Seconds that a client which left, or fell silent, is given in an open round before it is lost.",
        gt=0,
        le=3600,
    )
    beat: float = _set(
        2.0,
        "Seconds between the beats of a client at work; without any for two it counts as gone.",
        gt=0,
        le=3600,
    )
    max_clients: int = _set(10_000, "Clients attached at once.", ge=1, le=1_000_000)

    @model_validator(mode="after")
    def _names(self) -> Self:
        _checked_id("name", self.name)
        remedy = "join a network: give the reducer's https:// address and a token as --join-file"
        check_listen(self, self.secured, remedy)
        return self


class ClientSettings(_Joiner):
    """A client: trains on data that stays with it. Opens no port."""

    tier: ClassVar[str] = "client"

    name: str = _set("", "Name shown to people; empty for any free identity in state_dir.")
    state_dir: Path = _set(
        Path("fedn-data/clients"), "Folder for identities and journals; clients may share it."
    )
    app: str = _set("", "Your code as module:factory or file.py:factory; it makes the object that trains.")
    app_options: Mapping[str, Scalar] = _set({}, "Keyword arguments for the factory, as name=value.")
    data: str = _set(
        "",
        "Your data: a path, or any text that packages understand. Given instead of app, this client runs the "
        "compute packages of its sessions.",
    )
    allow: Sequence[str] = _set([], "Digests of the only packages that may run here; none for any.")
    hyperparameters: Mapping[str, Scalar] = _set(
        {}, "Hyperparameters that go over those of the plan, as name=value."
    )
    predictions: str = _set("", "Folder for predictions; empty for one in state_dir.")
    environments: bool = _set(True, "Install what packages require, each into an environment of its own.")
    unconfined: bool = _set(False, "Let package code read and write whatever this user can.")
    memory: ByteSize = _set(
        0,
        "Most memory that each process with your code may have, in bytes or as '8GiB'; 0 for no limit.",
        ge=0,
    )
    worker_memory: ByteSize = _set(
        4 * 2**30, "Memory above which a package's worker is started anew between tasks; 0 for never.", ge=0
    )
    task_timeout: float = _set(86_400.0, "Seconds that a task of a package may take.", gt=0, le=604_800)
    share_errors: bool = _set(
        False, "Tell the network what an error of your code says (it may quote data), not only its kind."
    )
    sessions: Sequence[str] = _set(
        [], "Ids of the only sessions that it takes part in, or patterns such as 's-202611*'; none for any."
    )
    hours: str = _set(
        "",
        "Local hours in which it takes part, such as '20:00-06:00' or 'mon-fri 18:00-08:00, sat-sun'; "
        "empty for always.",
    )
    leave_within: float = _set(
        300.0,
        "Seconds that what is under way is given when it pauses or its hours end; then it is stopped.",
        ge=0,
        le=604_800,
    )
    cpus: int = _set(0, "Most processors that its training may use; 0 for all.", ge=0, le=4096)
    ledger_files: int = _set(
        16, "Files of 64 MiB that the ledger of what left this machine may have.", ge=1, le=10_000
    )
    combiner: str = _set("", "Name of the combiner it would rather have; empty for the least loaded.")
    keep_updates: bool = _set(False, "Keep settled updates beside the journal, for audits.")
    journal_bytes: ByteSize = _set(
        8 * 2**30, "Most bytes of unsettled updates that are kept, or as '8GiB'.", gt=0
    )
    cache_models: int = _set(2, "Downloaded models that are kept.", ge=1, le=1000)

    @model_validator(mode="after")
    def _names(self) -> Self:
        for key in ("name", "combiner"):
            if getattr(self, key):
                _checked_id(key, getattr(self, key))
        if self.app and not re.fullmatch(r".+:[\w.]+", self.app):
            remedy = "give module:factory or file.py:factory"
            raise InvalidConfig("app", f"{self.app!r} names no factory", remedy)
        return self

    @model_validator(mode="after")
    def _say(self) -> Self:
        _as_config("hours", parse_hours, self.hours)
        return self

    @model_validator(mode="after")
    def _packages(self) -> Self:
        if self.app and self.data:
            remedy = "give app for code of your own, or data for the packages of the network"
            raise InvalidConfig("data", "is given beside app", remedy)
        for digest in self.allow:
            _as_config("allow", check_digest, digest)
        if reserved := [name for name in self.hyperparameters if name in RESERVED]:
            raise InvalidConfig(f"hyperparameters.{reserved[0]}", "is for the plan to set", "leave it out")
        return self


TIERS: Mapping[str, type[Settings]] = {
    kind.tier: kind for kind in (ReducerSettings, CombinerSettings, ClientSettings)
}

# --- checks ----------------------------------------------------------------------------------------


def is_loopback(host: str) -> bool:
    """Whether ``host`` can only be reached from this machine; no name but localhost is believed."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_insecure(settings: Settings, identified: bool) -> None:
    """Refuse the flag for a network without identity where there is one; raises InvalidConfig."""
    if identified and settings.insecure:
        problem = "contradicts the identity that this network has"
        raise InvalidConfig("insecure_no_tls_no_auth", problem, "leave it out")


def check_listen(settings: _Listener, identified: bool, remedy: str) -> None:
    """Refuse to listen beyond loopback without an identity, unless told loudly; raises InvalidConfig."""
    if not (identified or settings.insecure or is_loopback(settings.host)):
        raise InvalidConfig(
            "host",
            f"{settings.host!r} can be reached from other machines, and nobody is asked who they are",
            f"{remedy}; or use 127.0.0.1; or give {INSECURE_FLAG} if nobody else is on this network",
        )


def check_url(field: str, value: str) -> None:
    """Require http(s)://host[:port]; raises InvalidConfig naming ``field``."""
    if not re.fullmatch(r"https?://[^\s/?#@]+/?", value):
        raise InvalidConfig(
            field, f"{value!r} is not an address", "give http://host:port or https://host:port"
        )


def read_secret(field: str, path: str) -> str:
    """The secret in a file, without the space around it; raises InvalidConfig naming field and file."""
    raw = _beginning(field, path, SECRET_FILE_BYTES + 1)
    text = raw.decode("ascii", "replace").strip()
    if not text or len(raw) > SECRET_FILE_BYTES:
        problem = "holds too much" if text else "is empty"
        raise InvalidConfig(field, f"{path} {problem}", "put the secret into it, and nothing else")
    return text


def _beginning(field: str, path: str, size: int) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(size)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", "") or "no such path"
        raise InvalidConfig(field, f"{path} can't be read ({why})", "check the path and its rights") from None


def _token(field: str, text: str) -> TokenText:
    try:
        return parse_token(field, text)
    except InvalidInput as error:
        raise InvalidConfig(field, str(error.details["problem"]), str(error.details["remedy"])) from None


def exposed(kind: type[Settings], file: Path | None) -> str:
    """A warning in words, where ``file`` holds a secret that everybody on this machine may read; or ''."""
    if file is None or os.name != "posix" or not file.stat().st_mode & 0o004:
        return ""
    held = [name for name in read_yaml(file) if is_secret(kind, name)]
    return f"{file} holds {held[0]}, and everybody here may read it; chmod 600 {file}" if held else ""


def is_secret(kind: type[Settings], key: str) -> bool:
    """Whether a setting's value must not be shown."""
    return key in kind.model_fields and kind.model_fields[key].annotation is SecretStr


def _checked_id(field: str, value: str) -> None:
    _as_config(field, check_id, value)


def _as_config(field: str, check: Callable[[str, str], object], value: str) -> None:
    try:
        check(field, value)
    except InvalidInput as error:
        raise InvalidConfig(field, str(error.details["problem"]), str(error.details["remedy"])) from None


# --- filling ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Given:
    """A value as somebody gave it, and where: a file, a variable or a flag."""

    value: Any = field(repr=False)
    where: str


def load(
    kind: type[S],
    file: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> S:
    """Settings from ``file``, over it the environment, over that ``overrides`` (flags by field name).

    ``environ`` stands in for ``os.environ`` in tests.

    Raises:
        InvalidConfig: naming the key, where it stands, what is wrong and what to do.
    """
    given = gather(kind, file, overrides or {}, os.environ if environ is None else environ)
    try:
        return kind.model_validate({name: item.value for name, item in given.items()})
    except ValidationError as error:
        raise _explain(kind, error, given) from None


def gather(
    kind: type[Settings], file: Path | None, overrides: Mapping[str, Any], environ: Mapping[str, str]
) -> dict[str, Given]:
    """Every value that was given, by field; names are checked, values are not yet."""
    given: dict[str, Given] = {}
    if file is not None:
        for key, value in read_yaml(file).items():
            _known(kind, key, f"in {file}", key)
            given[key] = Given(value, f"in {file}")
    prefix = f"FEDN_{kind.tier.upper()}_"
    for variable in sorted(name for name in environ if name.upper().startswith(prefix)):
        key = variable[len(prefix) :].lower()
        _known(kind, key, "in the environment", variable)
        given[key] = Given(_from_text(kind, key, environ[variable]), f"in the environment ({variable})")
    for key, value in overrides.items():
        flag = "--" + key.replace("_", "-")
        _known(kind, key, "on the command line", flag)
        given[key] = Given(value, f"on the command line ({flag})")
    return given


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file (empty if the file is); raises InvalidConfig."""
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), _UniqueKeys)  # noqa: S506 — a SafeLoader
    except OSError as error:
        raise InvalidConfig(str(file), f"can't be read ({error.strerror})", "check the path") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = " ".join(str(error).split())
        raise InvalidConfig(str(file), f"is not YAML ({problem})", "write lines of 'key: value'") from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise InvalidConfig(str(file), "does not hold settings", "write lines of 'key: value'")
    return content


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that is given twice, where YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key, value in node.value:
            if keys.count(key.value) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is given twice", value.start_mark
                )
        return super().construct_mapping(node, deep)


def nearest(name: str, known: Iterable[str]) -> str:
    """A suggestion in words, such as "did you mean 'port'?", or ''."""
    close = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else ""


def _known(kind: type[Settings], key: str, where: str, shown: str) -> None:
    if key in kind.model_fields:
        return
    remedy = nearest(key, kind.model_fields) or f"known are {', '.join(kind.model_fields)};"
    raise InvalidConfig(
        shown,
        f"is not a setting of the {kind.tier} ({where})",
        f"{remedy} `fedn config show {kind.tier}` lists all",
    )


def _from_text(kind: type[Settings], key: str, text: str) -> Any:
    """An environment variable's text as the type of its field, as far as it can be read."""
    annotation = kind.model_fields[key].annotation
    if annotation is bool:
        return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}.get(
            text.lower(), text
        )
    if annotation in (int, float) or typing.get_origin(annotation) is not None:
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError:
            return text
    return text


_WORDS: Mapping[Any, str] = {
    int: "a whole number", float: "a number", bool: "true or false", str: "a text", Path: "a path",
    SecretStr: "a text",
    Sequence[str]: "a list of texts",
    ByteSize: "a number of bytes such as 1000000 or 4GiB", LogLevel: "debug, info, warning or error",
}  # fmt: skip


def _explain(kind: type[Settings], error: ValidationError, given: Mapping[str, Given]) -> InvalidConfig:
    """The first thing that pydantic found, in our words."""
    found = error.errors(include_url=False)[0]
    key = str(found["loc"][0])
    setting = kind.model_fields[key]
    words = _WORDS.get(setting.annotation, "names with plain values")
    shown = HIDDEN if is_secret(kind, key) else repr(found["input"])
    problem = f"{shown} is not {words}"
    if found["type"].startswith(("greater_than", "less_than")):
        words = str(found["msg"]).removeprefix("Input should be ")
        problem = f"{shown} is out of bounds"
    return InvalidConfig(key, f"{problem} ({given[key].where})", f"give {words}. {setting.description}")
