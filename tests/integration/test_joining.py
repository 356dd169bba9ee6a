"""The README's network beyond one machine, command by command, in real processes; and what stays secret.

Each machine is a folder. What the README says is run as it stands there, but for addresses and ports.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from ports import settled_port

from fedn.cli.rest_client import Reducer
from fedn.domain.errors import FednError
from fedn.domain.identity import parse_token
from fedn.running import STOP_WITH_STDIN

README = Path(__file__).parents[2] / "README.md"
MACHINES = ("reducer", "reducer", "combiner", "client", "reducer")
"""On which machine each block of the section is to be typed, as the README says before it."""
PATIENCE = 60.0
ATTACHED = " attached combiner="


def section(title: str) -> str:
    (found,) = re.findall(rf"^## {title}\n(.*?)(?=^## )", README.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return str(found)


def blocks(text: str) -> list[list[str]]:
    """The commands in each indented block."""
    found = re.findall(r"(?:^    .+\n)+", text, re.MULTILINE)
    return [[line.strip() for line in block.splitlines()] for block in found]


def programs(text: str) -> list[str]:
    """The Python files in it."""
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def until(ready: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not ready():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)


@dataclass
class Started:
    """A process that runs on."""

    popen: subprocess.Popen[bytes]
    log: Path
    argv: bytes = b""

    def says(self, words: str) -> bool:
        assert self.popen.poll() is None or words in self.log.read_text(), self.log.read_text()
        return words in self.log.read_text()


@dataclass
class Network:
    """What the README has made by now."""

    home: Path
    environment: dict[str, str]
    ports: tuple[int, int] = field(default_factory=lambda: (settled_port(), settled_port()))
    started: dict[str, Started] = field(default_factory=dict)
    answers: list[str] = field(default_factory=list)
    arguments: set[bytes] = field(default_factory=set)
    listener: Listener | None = None

    def __post_init__(self) -> None:
        for name in set(MACHINES):
            (self.home / name).mkdir()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.ports[0]}"

    @property
    def token(self) -> str:
        return (self.home / "reducer" / "network" / "admin.token").read_text().strip()

    def type(self, machine: str, line: str) -> None:
        """What happens when somebody types ``line`` there."""
        line = line.replace("reducer.example.org:8090", f"127.0.0.1:{self.ports[0]}")
        line = line.replace("combiner.example.org:12080", f"127.0.0.1:{self.ports[1]}")
        words = shlex.split(line)
        if words[0] == "export":
            self.environment |= dict(word.split("=", 1) for word in words[1:])
        elif words[1] in MACHINES:
            self.start(machine, *words[1:])
        else:
            flags = ("--yes",) if "revoke" in words else ()
            self.answers.append(self.run(machine, *words[1:], *flags).stdout)

    def start(self, machine: str, *words: str, name: str = "") -> Started:
        name = name or machine
        ports = {"reducer": ("--port", str(self.ports[0])), "combiner": ("--port", str(self.ports[1]))}
        log = self.home / f"{name}.log"
        with log.open("wb") as output:
            popen = subprocess.Popen(
                [sys.executable, "-m", "fedn", *words, *ports.get(machine, ())],
                cwd=self.home / machine, env=self.environment | {STOP_WITH_STDIN: "1"},
                stdin=subprocess.PIPE, stdout=output, stderr=output,
            )  # fmt: skip
        self.started[name] = Started(popen, log)
        return self.started[name]

    def run(self, machine: str, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        with subprocess.Popen(
            [sys.executable, "-m", "fedn", *words], cwd=self.home / machine, env=self.environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
        ) as popen:  # fmt: skip
            with suppress(OSError):
                self.arguments.add(Path(f"/proc/{popen.pid}/cmdline").read_bytes())
            self.look_at_arguments()
            try:
                out, err = popen.communicate(timeout=PATIENCE)
            finally:
                popen.kill()
        assert popen.returncode == code, out + err
        with (self.home / "commands.log").open("a") as log:
            log.write(err)
        return subprocess.CompletedProcess(words, code, out, err)

    def look_at_arguments(self) -> None:
        """What every user of this machine can see now."""
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                line = file.read_bytes()
                if b"fedn" in line:
                    self.arguments.add(line)

    def close(self) -> None:
        for process in self.started.values():
            process.popen.terminate()
        for process in self.started.values():
            with suppress(subprocess.TimeoutExpired):
                process.popen.wait(10)
            process.popen.kill()
            process.popen.communicate()
        if self.listener:
            self.listener.close()


class Listener:
    """Everything that the live event stream tells."""

    def __init__(self, network: Network) -> None:
        self.heard: list[str] = []
        self._reducer = Reducer(network.url, network.token)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        with suppress(FednError, RuntimeError):
            for event in self._reducer.events():
                self.heard.append(json.dumps(event))

    def close(self) -> None:
        """When the reducer has gone, and the stream with it."""
        self._thread.join()
        self._reducer.close()


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """The README, followed up to the last command but one: a network of three that has trained."""
    home = tmp_path_factory.mktemp("network")
    mine = {name: value for name, value in os.environ.items() if not name.startswith("FEDN_")}
    network = Network(home, mine | {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"})
    app, make = programs(section("Your own model, your own data"))
    for machine in ("reducer", "client"):
        (home / machine / "regression.py").write_text(app)
        (home / machine / "make.py").write_text(make)
        subprocess.run([sys.executable, "make.py"], cwd=home / machine, check=True, timeout=PATIENCE)
    first, tokens, combiner, client, rest = blocks(section("A network beyond this machine"))
    with closing(network):
        for line in first:
            network.type("reducer", line)
        until(lambda: network.started["reducer"].says("reducer is up"), "the reducer")
        network.listener = Listener(network)
        for line in tokens:
            network.type("reducer", line)
        for machine, lines in (("combiner", combiner), ("client", client)):
            shutil.copy(home / "reducer" / f"{machine}.token", home / machine)
            for line in lines:
                network.type(machine, line)
        until(lambda: network.started["client"].says(ATTACHED), "the client")
        assert rest[-1] == "fedn network revoke clinic"
        for line in rest[:-1]:
            network.type("reducer", line)
        network.look_at_arguments()
        yield network


def test_the_readme_leads_to_a_trained_model(network: Network) -> None:
    status, seeded, watched, audited = network.answers[-4:]
    assert "client clinic" in status
    assert re.fullmatch(r"[0-9a-f]{64}\n", seeded)
    assert "Session finished after round 5" in watched
    assert "The audit log is whole" in audited
    assert all(started.popen.poll() is None for started in network.started.values())
    assert len(network.started) == 3


def test_everybody_is_who_the_certificate_says(network: Network) -> None:
    with Reducer(network.url, network.token) as reducer:
        members = {m["role"]: m for m in reducer.get("/members")["members"]}
        (client,) = reducer.get("/clients")["clients"]
    assert members["client"]["name"] == "clinic"
    assert members["client"]["member"] == client["client"]
    assert members["combiner"]["member"] == "combiner"


@dataclass
class Secret:
    """Something in all the forms that it could be written in, and the files that may hold it."""

    name: str
    forms: list[bytes]
    allowed: list[Path]

    def is_in(self, content: bytes) -> bool:
        return any(form in content for form in self.forms)


def secrets_of(network: Network) -> list[Secret]:
    """Every token's secret and every private key."""
    found = []
    tokens = sorted(network.home.rglob("*.token"))
    for file in tokens:
        secret = parse_token("test", file.read_text()).secret
        copies = [copy for copy in tokens if secret in copy.read_text()]
        found.append(Secret(str(file), [secret.encode(), base64.urlsafe_b64decode(f"{secret}=")], copies))
    for file in sorted([*network.home.rglob("key.pem"), *network.home.rglob("ca.key")]):
        key = load_pem_private_key(file.read_bytes(), None)
        assert isinstance(key, EllipticCurvePrivateKey)
        number = key.private_numbers().private_value.to_bytes(32, "big")
        line = file.read_bytes().splitlines()[2]
        found.append(Secret(str(file), [line, number, number.hex().encode()], [file]))
    return found


def test_there_are_secrets_to_look_for_and_only_their_owner_may_read_them(network: Network) -> None:
    found = secrets_of(network)
    assert len({secret.forms[0] for secret in found}) == 4 + 3  # keys, the authority's among them, and tokens
    for secret in found:
        assert all(secret.is_in(path.read_bytes()) for path in secret.allowed)
        assert all(path.stat().st_mode & 0o077 == 0 for path in secret.allowed)


def test_no_secret_is_in_a_file_that_it_does_not_belong_to(network: Network) -> None:
    """Logs and databases among them: the client's key is in its own folder alone."""
    found = secrets_of(network)
    files = [path for path in network.home.rglob("*") if path.is_file()]
    assert {"state.db", "client.log", "reducer.log", "commands.log"} <= {path.name for path in files}
    for path in files:
        content = path.read_bytes()
        for secret in found:
            assert path in secret.allowed or not secret.is_in(content), f"{secret.name} is in {path}"


def test_no_secret_is_in_an_argument(network: Network) -> None:
    network.look_at_arguments()
    seen = b"\n".join(network.arguments)
    for words in (b"--join-file\0client.token", b"--network-dir", b"token\0create"):
        assert words in seen
    for secret in secrets_of(network):
        assert not secret.is_in(seen), secret.name


def test_no_secret_is_told(network: Network) -> None:
    """By the event stream, by any list, or on stdout."""
    assert network.listener
    heard = network.listener.heard
    with Reducer(network.url, network.token) as reducer:
        lists = [reducer.get(path) for path in ("/events", "/audit", "/tokens", "/members", "/network")]
    assert any("round_committed" in line for line in heard)
    told = (json.dumps(lists) + "".join(heard) + "".join(network.answers)).encode()
    assert b"token_created" in told
    for secret in secrets_of(network):
        assert not secret.is_in(told), secret.name


def test_a_token_lets_one_in_once(network: Network) -> None:
    flags = ("client", "start", "--reducer", network.url, "--join-file", "client.token", "--name", "clinic",
             "--app", "regression.py:Regression", "--app-options", "data=mine.npz")  # fmt: skip
    done = network.run("client", *flags, "--state-dir", "elsewhere", code=5)
    assert "this token has been used up" in done.stderr
    assert "Traceback" not in done.stderr
    done = network.run("client", *flags[:-6], "--name", "other", *flags[-4:], "--state-dir", "third", code=5)
    assert "this token is for 'clinic' alone" in done.stderr


def test_from_the_next_start_on_no_token_is_needed(network: Network) -> None:
    combiner = network.started.pop("combiner")
    combiner.popen.terminate()
    combiner.popen.communicate(timeout=30)
    assert combiner.popen.returncode == 0
    (network.home / "combiner" / "combiner.token").unlink()
    line = blocks(section("A network beyond this machine"))[2][0].replace("--join-file combiner.token", "")
    network.type("combiner", line)
    until(lambda: network.started["combiner"].says("registered"), "the combiner")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl here")
def test_openssl_is_answered_with_a_certificate_of_this_network_alone(network: Network) -> None:
    """A combiner's first word over HTTP/2 comes by itself; without a certificate there is none."""
    identities = {file.parent for file in network.home.rglob("certificate.pem")}
    (mine,) = (folder for folder in identities if "clinic" in str(folder))
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{network.ports[1]}", "-alpn", "h2", "-quiet",
               "-CAfile", str(mine / "authority.pem"), "-verify_return_error"]  # fmt: skip
    shown = ["-cert", str(mine / "certificate.pem"), "-key", str(mine / "key.pem")]
    for flags, answered in ((shown, True), ([], False)):
        with subprocess.Popen([*command, *flags], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE) as openssl:  # fmt: skip
            assert openssl.stdin and openssl.stdout and openssl.stderr  # noqa: PT018
            openssl.stdin.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
            openssl.stdin.flush()
            first = openssl.stdout.read(9)
            openssl.kill()
            said = openssl.stderr.read()
        assert b"verify return:1" in said, said  # it was our combiner that spoke, or did not
        assert bool(first) is answered, said


def test_a_revoked_client_ends_and_says_why(network: Network) -> None:
    client = network.started.pop("client")
    until(lambda: ATTACHED in client.log.read_text().splitlines()[-1], "the client")
    network.type("reducer", "fedn network revoke clinic")
    client.popen.wait(PATIENCE)
    client.popen.communicate()
    assert client.popen.returncode == 5
    assert re.search(r"Error: .*revoked", client.log.read_text())
    assert "Traceback" not in client.log.read_text()
    with Reducer(network.url, network.token) as reducer:
        until(lambda: not reducer.get("/clients")["clients"], "the client to be gone")
    start = blocks(section("A network beyond this machine"))[3][0]
    network.type("client", start)  # its folder still holds a certificate that has not expired
    assert network.started["client"].popen.wait(PATIENCE) == 5
    assert "revoked" in network.started["client"].log.read_text()
