"""Secrets of a real network, looked for in all that it writes and says, at its loudest, after much trouble.

They may be in the few private files that hold them. Everywhere else below the sandbox's directory, in
every answer and every command's output, in arguments and environments of processes, they must not be.
"""

from __future__ import annotations

import base64
import os
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization as form
from federations import APP, Running
from ports import settled_port

from fedn.cli.rest_client import Reducer
from fedn.domain.identity import Role, parse_token
from fedn.identity.certificates import new_key, new_request, private_key
from fedn.sandbox.processes import Process, Sandbox
from fedn.wire.security import https_context

HOLDERS = ("*.token", "*.key", "key.pem")
"""The files that are meant for secrets; each is its owner's alone."""


class Loud(Sandbox):
    """A sandbox that logs all that there is to log."""

    def _start(self, name: str, tier: str, *flags: str) -> Process:
        return super()._start(name, tier, *flags, "--log-level=debug")


@dataclass
class Hunt:
    """What is looked for (`secrets`, by a word for each), and where."""

    directory: Path
    secrets: dict[str, bytes] = field(default_factory=dict)
    said: dict[str, bytes] = field(default_factory=dict)

    def token(self, what: str, text: str) -> str:
        """Look for a token's secret; of the rest of its text nothing is secret."""
        self.secrets[f"the token of {what}"] = parse_token("token", text.strip()).secret.encode()
        return text.strip()

    def key(self, what: str, pem: bytes) -> None:
        """Look for a private key: the lines of its PEM, its bytes, and the number itself, in hexadecimal."""
        key = private_key(pem)
        lines = pem.decode("ascii").splitlines()
        for number, line in enumerate(line for line in lines if len(line) >= 60):
            self.secrets[f"the key of {what}, line {number}"] = line.encode()
        number = key.private_numbers().private_value
        self.secrets[f"the key of {what}, bytes"] = number.to_bytes(32, "big")
        self.secrets[f"the key of {what}, hexadecimal"] = f"{number:064x}".encode()
        self.secrets[f"the key of {what}, whole"] = base64.b64encode(
            key.private_bytes(form.Encoding.DER, form.PrivateFormat.PKCS8, form.NoEncryption())
        )

    def hears(self, where: str, what: bytes) -> None:
        """Something was said."""
        self.said[f"{where} ({len(self.said)})"] = what

    def files(self) -> Iterator[Path]:
        return (path for path in self.directory.rglob("*") if path.is_file() and not path.is_symlink())

    def found(self) -> set[tuple[str, str]]:
        """(which secret, where) for everything that holds one and is not meant to."""
        places = dict(self.said)
        places |= {
            str(path.relative_to(self.directory)): path.read_bytes()
            for path in self.files()
            if not holds(path)
        }
        return {
            (what, where)
            for where, data in places.items()
            for what, secret in self.secrets.items()
            if secret in data
        }


def holds(path: Path) -> bool:
    return any(path.match(pattern) for pattern in HOLDERS)


def processes(sandbox: Sandbox) -> Iterator[tuple[str, int]]:
    """The sandbox's processes, and theirs."""
    for name, process in sandbox.processes.items():
        waiting = [process.popen.pid]
        while waiting:
            pid = waiting.pop()
            yield name, pid
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                waiting += map(int, children.read_text("ascii").split())


@dataclass
class Trouble:
    """Everything that can go wrong over HTTP with a secret in hand. Every answer is kept for the hunt."""

    hunt: Hunt
    http: httpx.Client

    def ask(self, method: str, path: str, token: str = "", **how: Any) -> httpx.Response:
        headers = dict(how.pop("headers", {}))
        if token:
            headers["Authorization"] = f"Bearer {token}"
        answer = self.http.request(method, path, headers=headers, **how)
        shown = "\n".join(
            f"{name}: {value}" for name, value in answer.headers.items() if name != "set-cookie"
        )
        self.hunt.hears(
            f"{method} {path[:40]} answered {answer.status_code}", shown.encode() + answer.content
        )
        return answer

    def made(self, admin: str, body: Mapping[str, Any]) -> str:
        """A new token. This one answer holds its secret, as it should."""
        answer = self.http.post("/api/v1/tokens", json=body, headers={"Authorization": f"Bearer {admin}"})
        assert answer.status_code == 201, answer.text
        return self.hunt.token(str(body), answer.json()["text"])

    def with_people(self, admin: str) -> None:
        """Wrong, revoked, misplaced and mistyped tokens of people, and logins."""
        viewer = self.made(admin, {"role": "viewer", "name": "vera"})
        gone = self.made(admin, {"role": "operator", "name": "otto"})
        assert (
            self.ask("POST", f"/api/v1/tokens/{parse_token('', gone).token}/revoke", admin).status_code == 200
        )
        assert self.ask("GET", "/api/v1/sessions", gone).status_code == 403
        wrong = self.hunt.token("nobody", gone[:-43] + viewer[-43:][::-1])
        assert self.ask("GET", "/api/v1/sessions", wrong).status_code == 401
        assert self.ask("GET", "/api/v1/tokens", viewer).status_code == 403
        for header in (viewer, f"Basic {viewer}", f"Bearer {viewer} {viewer}", f"Bearer {viewer}x" * 50):
            assert self.ask("GET", "/api/v1/sessions", headers={"Authorization": header}).status_code in (
                400,
                401,
            )
        self.ask("GET", "/api/v1/whoami", viewer)
        self.ask("POST", "/api/v1/sessions", viewer, json={"name": viewer})
        self.ask("POST", "/api/v1/sessions", admin, json={"name": 7, "plan": {"rounds": admin}})
        self.ask("POST", "/api/v1/sessions", admin, content=b"{" + admin.encode(), headers=JSON)
        self.ask("POST", "/login", data={"token": wrong})
        self.ask("POST", "/login", data={"token": gone})
        self.ask("POST", "/login", json={"token": viewer})
        login = self.ask("POST", "/login", data={"token": viewer})
        (cookie,) = (value for name, value in login.cookies.items() if name.endswith("fedn_login"))
        self.hunt.secrets["the cookie of vera"] = cookie.encode()
        own = {"Cookie": f"__Host-fedn_login={cookie}", "Origin": str(self.http.base_url).rstrip("/")}
        self.http.cookies.clear()
        page = self.ask("GET", "/", headers=own)
        assert page.status_code == 200
        own["Fedn-Csrf"] = page.text.partition('data-token="')[2].partition('"')[0]
        assert self.ask("POST", "/api/v1/tokens", json={"role": "admin"}, headers=own).status_code == 403
        assert self.ask("POST", "/logout", headers=own).status_code == 303
        self.http.cookies.clear()
        assert self.ask("GET", "/api/v1/sessions", headers=own).status_code == 401

    def with_members(self, admin: str) -> None:
        """Join tokens that are used up, of another role, beside bad requests; keys where none belong."""
        once = self.made(admin, {"role": "client", "name": "once"})
        key = new_key()
        self.hunt.key("a client that was made by hand", key)
        request = new_request(key, Role.CLIENT, "once-1").decode()
        good = {"token": once, "request": request, "name": "once"}
        for body in (
            {"token": once}, {"token": once, "request": 7}, {"token": once, "request": "x", "name": "once"},
            good | {"name": "other"}, good | {"labels": {"site": 5}}, good | {"more": 1},
            good | {"token": admin}, good | {"request": new_request(key, Role.COMBINER, "c").decode()},
        ):  # fmt: skip
            assert 400 <= self.ask("POST", "/api/v1/join", json=body).status_code < 500
        self.ask("POST", "/api/v1/join", content=once.encode(), headers=JSON)
        assert self.ask("POST", "/api/v1/join", json=good).status_code == 201
        other = new_request(new_key(), Role.CLIENT, "once-2").decode()
        assert self.ask("POST", "/api/v1/join", json=good | {"request": other}).status_code == 401
        self.ask("POST", "/api/v1/renew", json={"request": key.decode()})
        self.ask("POST", "/api/v1/members/client/once-1/revoke", admin)
        assert self.ask("POST", "/api/v1/renew", json={"request": request}).status_code == 403

    def looking(self, admin: str) -> None:
        """All that can be read."""
        for path in ("tokens", "members", "audit?limit=1000", "audit/verify", "events", "network", "clients",
                     "sessions", "combiners", "authority", "openapi.json"):  # fmt: skip
            assert self.ask("GET", f"/api/v1/{path}", admin).status_code == 200
        with self.http.stream("GET", "/api/v1/events/stream", params={"after": "0"},
                              headers={"Authorization": f"Bearer {admin}"}) as answer:  # fmt: skip
            lines = answer.iter_lines()
            self.hunt.hears("the event stream", "\n".join(next(lines) for _ in range(12)).encode())


JSON = {"Content-Type": "application/json"}


def commands(hunt: Hunt, sandbox: Sandbox) -> None:
    """What people type, also with a token in the wrong place, and what is printed then."""
    spent = (sandbox.directory / "tokens" / "client-1.token").read_text("ascii").strip()
    where = {"FEDN_URL": sandbox.url, "FEDN_TOKEN_FILE": str(sandbox.secured.token_file)}
    reversed_secret = hunt.token("a typist", spent[:-43] + spent[-43:][::-1])
    client = ("client", "start", f"--reducer={sandbox.url}", f"--app={APP}", "--name=late",
              "--app-options=index=2", "--app-options=clients=3", "--log-level=debug",
              f"--state-dir={sandbox.directory / 'late'}")  # fmt: skip
    joining = {"FEDN_CLIENT_JOIN": reversed_secret, "FEDN_CLIENT_REDUCER": sandbox.url}
    for words, environment in (
        (("token", "list", "--json"), where), (("audit", "show", "--json"), where), (("status",), where),
        (("network", "members", "--json"), where), (("whoami",), where), (("audit", "verify"), where),
        (("whoami",), {"FEDN_URL": sandbox.url, "FEDN_TOKEN": reversed_secret}),
        (("whoami",), {"FEDN_URL": sandbox.url, "FEDN_TOKEN": f"{reversed_secret}x"}),
        (("whoami", "--token-file", spent), {"FEDN_URL": sandbox.url}),
        (("config", "show", "client", "--json"), joining), (("config", "show", "client"), joining),
        (client, joining), (client, {"FEDN_CLIENT_JOIN": f"{reversed_secret}x"}),
    ):  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "fedn", *words], env={**os.environ, **environment},
            stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        mistyped = done.stderr.replace(spent.encode(), b"") if spent in words else done.stderr
        hunt.hears(f"fedn {' '.join(words[:2])} ended {done.returncode}", done.stdout + mistyped)
        assert done.returncode in (0, 2, 5), done.stderr.decode()


def test_secrets_stay_where_they_belong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "sandbox"
    (directory / "temporary").mkdir(parents=True)
    monkeypatch.setenv("FEDN_TEST_DIR", str(directory))
    monkeypatch.setenv("TMPDIR", str(directory / "temporary"))
    hunt = Hunt(directory)
    sandbox = Loud(directory, 1, 2, settled_port(), app=APP, tls=True)
    with sandbox, Reducer(sandbox.url, sandbox.token) as reducer:
        admin = hunt.token("the administrator", sandbox.token)
        running = Running(sandbox, reducer)
        running.attached(2)
        for path in filter(holds, hunt.files()):
            if path.suffix == ".token":
                hunt.token(path.name, path.read_text("ascii"))
            else:
                hunt.key(str(path.relative_to(directory)), path.read_bytes())
        assert len(hunt.secrets) > 5 * 5  # an authority, a reducer, a combiner, two clients; and tokens
        session = running.start(rounds=2, min_clients=2)
        context = https_context((sandbox.secured.network / "ca.pem").read_bytes(), None)
        with httpx.Client(base_url=sandbox.url, verify=context, trust_env=False, timeout=60) as http:
            trouble = Trouble(hunt, http)
            trouble.with_people(admin)
            trouble.with_members(admin)
            running.open_gate()
            running.finished(session)
            commands(hunt, sandbox)
            second = next(m for m in reducer.get("/members")["members"] if m["name"] == "client-2")
            reducer.post(f"/members/client/{second['member']}/revoke")
            log = sandbox.processes["client-2"].log
            running.until(lambda: "revoked" in log.read_text(errors="replace"))
            trouble.looking(admin)
        for name, pid in processes(sandbox):
            for what in ("cmdline", "environ"):
                hunt.hears(f"{what} of {name}", Path(f"/proc/{pid}/{what}").read_bytes())
    logs = "".join(path.read_text(errors="replace") for path in (directory / "logs").iterdir())
    assert "DEBUG" in logs
    assert "401" in str(hunt.said.keys())
    assert "403" in str(hunt.said.keys())
    assert hunt.found() == set()


def test_the_hunt_finds_what_is_there(tmp_path: Path) -> None:
    """In a file of any kind and in what was said, by a line, the bytes or the number of a key."""
    hunt, key = Hunt(tmp_path), new_key()
    hunt.key("somebody", key)
    number = private_key(key).private_numbers().private_value
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "state.db").write_bytes(b"\0" + number.to_bytes(32, "big") + b"\0")
    (tmp_path / "key.pem").write_bytes(key)
    hunt.hears("a log", key.splitlines()[2])
    hunt.hears("another", f"{number:064x}".encode())
    places = {where.partition(" (")[0] for _, where in hunt.found()}
    assert places == {"deep/state.db", "a log", "another"}


def test_what_holds_secrets_is_its_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDN_TEST_DIR", str(tmp_path))
    with Loud(tmp_path, 1, 1, settled_port(), app=APP, tls=True) as sandbox:
        with Reducer(sandbox.url, sandbox.token) as reducer:
            Running(sandbox, reducer).attached(1)
        held = [path for path in Hunt(tmp_path).files() if holds(path)]
        assert len(held) >= 2 + 1 + 2 + 2  # the network's, the reducer's, two join tokens, two members' keys
        for path in held:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700, path.parent
