"""What `fedn sandbox --tls` adds: a network below the sandbox's directory, and join tokens for its processes.

Tokens travel by file alone; each is good for one process, under its own name.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from fedn.domain.errors import FednError, LinkBroken
from fedn.domain.identity import Role
from fedn.identity import network_dir
from fedn.identity.secret_files import create_private, make_private_directory
from fedn.wire.security import https_context

START_SECONDS = 120.0
LOOK_SECONDS = 0.05


class Secured:
    """The identity of the sandbox in ``directory``, whose reducer is at ``url``.

    ``check`` is called while the reducer is waited for, and raises if it will never come.
    """

    def __init__(self, directory: Path, url: str, check: Callable[[], None]) -> None:
        self.network = directory / "network"
        self._tokens = directory / "tokens"
        self._url = url
        self._check = check

    @property
    def token_file(self) -> Path:
        """Where the admin's token lies."""
        return self.network / network_dir.ADMIN_TOKEN

    def make(self) -> None:
        """Make the network, unless an earlier sandbox in this directory has."""
        if not (self.network / network_dir.NETWORK).exists():
            network_dir.create(self.network, "sandbox", (), time.time())

    def join_file(self, role: Role, name: str) -> Path:
        """The file with the token by which ``name`` joins; asked for at the reducer, once."""
        file = self._tokens / f"{name}.token"
        if not file.exists():
            text = self._created({"role": str(role), "name": name})
            make_private_directory(self._tokens)
            create_private(file, f"{text}\n".encode())
        return file

    def wait(self) -> None:
        """Until the reducer is up."""
        self._ask("GET", "/healthz")

    def _created(self, body: dict[str, Any]) -> str:
        """A new token's text."""
        answer = self._ask("POST", "/tokens", body)
        if answer.status_code != 201:
            raise FednError(f"the reducer did not make a token: it answered {answer.status_code}")
        return str(answer.json()["text"])

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        """The reducer's answer to its administrator, as soon as it is up."""
        headers = {"Authorization": f"Bearer {self.token_file.read_text(encoding='ascii').strip()}"}
        context = https_context((self.network / network_dir.CA).read_bytes(), None)
        deadline = time.monotonic() + START_SECONDS
        with httpx.Client(headers=headers, verify=context, trust_env=False, timeout=30.0) as http:
            while True:
                self._check()
                try:
                    return http.request(method, f"{self._url}/api/v1{path}", json=body)
                except httpx.TransportError as error:
                    if time.monotonic() > deadline:
                        raise LinkBroken(f"no reducer answers at {self._url} ({error})") from None
                    time.sleep(LOOK_SECONDS)
