"""What the settings of several tiers share."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_serializer, model_validator

from fedn.config.checks import (
    INSECURE_FLAG,
    beginning,
    check_insecure,
    check_url,
    is_loopback,
    parsed_token,
    read_secret,
)
from fedn.domain.errors import InvalidConfig
from fedn.domain.identity import TokenText

HIDDEN = "***"
"""What is shown instead of a secret."""
LogLevel = Literal["debug", "info", "warning", "error"]


def setting(default: Any, doc: str, **bounds: Any) -> Any:
    """A field with its default, one sentence for people, and pydantic's bounds."""
    strict = False if isinstance(default, Path) else None  # paths come as text; everything else as it is
    return Field(default, description=doc, strict=strict, **bounds)


class Settings(BaseModel):
    """What every tier has. Frozen; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    tier: ClassVar[str] = ""

    log_level: LogLevel = setting("info", "Least level that is logged: debug, info, warning, error.")
    log_json: bool = setting(False, "Log one JSON object per line instead of plain text.")
    insecure_no_tls_no_auth: bool = setting(
        False, "INSECURE: speak with other machines, with neither encryption nor login."
    )

    @property
    def insecure(self) -> bool:
        """Whether this process may speak with other machines without encryption and login."""
        return self.insecure_no_tls_no_auth

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON form; a settings file with these values means the same."""
        return self.model_dump(mode="json")


class Listener(Settings):
    """A tier that opens a port: on loopback, or with an identity, or loudly insecure."""

    host: str = setting("127.0.0.1", "Address to listen on.")


class Joiner(Settings):
    """A tier that joins a network, by a token, and holds a certificate from then on."""

    reducer: str = setting(
        "http://127.0.0.1:8090", "Address of the reducer; https:// where it asks who calls."
    )
    join: SecretStr = setting(SecretStr(""), "Token to join the network with, at the first start.")
    join_file: str = setting("", "File that holds the token to join with; FEDN_…_JOIN_FILE is this one, too.")
    ca_bundle: str = setting(
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
            return parsed_token("join", text) if text else None
        return parsed_token("join_file", read_secret("join_file", self.join_file))

    @model_validator(mode="after")
    def _joins(self) -> Self:
        check_url("reducer", self.reducer)
        if self.join.get_secret_value():
            if self.join_file:
                raise InvalidConfig("join", "is given beside join_file", "leave one of the two out")
            parsed_token("join", self.join.get_secret_value())
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
            beginning("ca_bundle", self.ca_bundle, 1)
        return self
