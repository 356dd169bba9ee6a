"""The settings of a client: ``settings-client.yaml``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import ByteSize, model_validator

from fedn.config.base import Joiner, setting
from fedn.config.checks import as_config, checked_id
from fedn.domain.errors import InvalidConfig
from fedn.domain.hours import parse_hours
from fedn.domain.ids import check_digest
from fedn.domain.plan import RESERVED, Scalar
from fedn.domain.slots import SLOT, numbered

Confinement = Literal["required", "available", "none"]


class ClientSettings(Joiner):
    """A client: trains on data that stays with it. Opens no port."""

    tier: ClassVar[str] = "client"

    name: str = setting(
        "",
        "Name shown to people; empty for any free identity in state_dir, which is numbered: {slot} in a name "
        "is that number.",
    )
    state_dir: Path = setting(
        Path("fedn-data/clients"), "Folder for identities and journals; clients may share it."
    )
    app: str = setting("", "Your code as module:factory or file.py:factory; it makes the object that trains.")
    app_options: Mapping[str, Scalar] = setting({}, "Keyword arguments for the factory, as name=value.")
    data: str = setting(
        "",
        "Your data: a path, or any text that packages understand; {slot} in it is the number that the name "
        "got. Given instead of app, this client runs the compute packages of its sessions.",
    )
    allow: Sequence[str] = setting([], "Digests of the only packages that may run here; none for any.")
    hyperparameters: Mapping[str, Scalar] = setting(
        {}, "Hyperparameters that go over those of the plan, as name=value."
    )
    predictions: str = setting("", "Folder for predictions; empty for one in state_dir.")
    environments: bool = setting(True, "Install what packages require, each into an environment of its own.")
    confinement: Confinement = setting(
        "available",
        "Whether package code is kept to its folders: where this system can (available), or it does not run "
        "(required), or it may read and write whatever this user can (none).",
    )
    memory: ByteSize = setting(
        0,
        "Most memory that your code may have, each process and all of a task together, in bytes or as "
        "'8GiB'; 0 for no limit.",
        ge=0,
    )
    worker_memory: ByteSize = setting(
        4 * 2**30, "Memory above which a package's worker is started anew between tasks; 0 for never.", ge=0
    )
    worker_idle: float = setting(
        900.0, "Seconds after which a package's worker with nothing to do is ended; 0 for never.", ge=0
    )
    task_timeout: float = setting(86_400.0, "Seconds that a task of a package may take.", gt=0, le=604_800)
    share_errors: bool = setting(
        False, "Tell the network what an error of your code says (it may quote data), not only its kind."
    )
    share_log: bool = setting(
        False, "Show the network's people the last lines of this client's log, which name files and tasks."
    )
    sessions: Sequence[str] = setting(
        [], "Ids of the only sessions that it takes part in, or patterns such as 's-202611*'; none for any."
    )
    hours: str = setting(
        "",
        "Local hours in which it takes part, such as '20:00-06:00' or 'mon-fri 18:00-08:00, sat-sun'; "
        "empty for always.",
    )
    leave_within: float = setting(
        300.0,
        "Seconds that what is under way is given when it pauses or its hours end; then it is stopped.",
        ge=0,
        le=604_800,
    )
    cpus: int = setting(0, "Most processors that its training may use; 0 for all.", ge=0, le=4096)
    ledger_files: int = setting(
        16, "Files of 64 MiB that the ledger of what left this machine may have.", ge=1, le=10_000
    )
    combiner: str = setting("", "Name of the combiner it would rather have; empty for the least loaded.")
    keep_updates: bool = setting(False, "Keep settled updates beside the journal, for audits.")
    journal_bytes: ByteSize = setting(
        8 * 2**30, "Most bytes of unsettled updates that are kept, or as '8GiB'.", gt=0
    )
    cache_models: int = setting(2, "Downloaded models that are kept.", ge=1, le=1000)

    @model_validator(mode="after")
    def _names(self) -> Self:
        for key in ("name", "combiner"):
            if getattr(self, key):
                checked_id(key, numbered(getattr(self, key), 1) if key == "name" else getattr(self, key))
        if SLOT in self.data and self.name and SLOT not in self.name:
            problem = f"has {SLOT}, and the name {self.name!r} has no number to put there"
            raise InvalidConfig("data", problem, f"write {SLOT} into the name, too, or leave the name out")
        if self.app and not re.fullmatch(r".+:[\w.]+", self.app):
            remedy = "give module:factory or file.py:factory"
            raise InvalidConfig("app", f"{self.app!r} names no factory", remedy)
        return self

    @model_validator(mode="after")
    def _say(self) -> Self:
        as_config("hours", parse_hours, self.hours)
        return self

    @model_validator(mode="after")
    def _packages(self) -> Self:
        if self.app and self.data:
            remedy = "give app for code of your own, or data for the packages of the network"
            raise InvalidConfig("data", "is given beside app", remedy)
        if self.app and self.confinement == "required":
            problem = "is required, and an app is never confined: it runs in the client's own process"
            raise InvalidConfig("confinement", problem, "leave it out, or run packages by data")
        for digest in self.allow:
            as_config("allow", check_digest, digest)
        if reserved := [name for name in self.hyperparameters if name in RESERVED]:
            raise InvalidConfig(f"hyperparameters.{reserved[0]}", "is for the plan to set", "leave it out")
        return self
