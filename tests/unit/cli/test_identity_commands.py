"""Networks, tokens, members and the audit log on the command line, over real TLS."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import stat
import subprocess
import sys
import time
from pathlib import Path

import certifi
import pytest

from fedn.domain.errors import FednError
from fedn.domain.identity import AuditNote, Role, parse_token
from fedn.identity.credentials import Keyring
from fedn.identity.joining import join
from fedn.identity.network_dir import NetworkDir
from fedn.reducer.auditing import Auditor
from fedn.reducer.registrar import Registrar
from fedn.reducer.rest import create_app
from fedn.reducer.web import Web


@pytest.fixture(scope="module")
def network(fedn_at, tmp_path_factory):
    """A network as `fedn network init` makes it, opened as a reducer does."""
    folder = tmp_path_factory.mktemp("home") / "network"
    fedn_at("http://127.0.0.1:9").good("network", "init", "--dir", folder, "--name", "clinics")
    return NetworkDir.open(folder)


@pytest.fixture(scope="module")
def address(network, settings, plug):
    """One web server for all tests: stopping one takes half a second."""
    switch = plug()
    web = Web(switch, settings, network.wallet)
    web.start()
    yield f"https://127.0.0.1:{web.port}", switch
    web.stop()


class Clock:
    """The reducer's, which a test may put forward."""

    ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def registrar(network, service, clock):
    store = service.state.identity
    words = {"name": network.name, "admin": network.admin, "clock": clock}
    return Registrar(store, network.authority, Auditor(store), **words)


@pytest.fixture
def admin(address, service, settings, registrar, network, fedn_at):
    """`fedn` as the network's first administrator."""
    url, switch = address
    switch.app = create_app(service, settings, registrar)
    return fedn_at(url, str(network.directory / "admin.token"))


def new_token(admin, tmp_path, role, *flags):
    file = tmp_path / f"{role}-{len(list(tmp_path.iterdir()))}.token"
    made = admin.json("token", "create", "--role", role, "-o", file, *flags)
    return made, file


def joined(admin, file, member, folder, role=Role.CLIENT, name=""):
    token = file.read_text().strip()
    return asyncio.run(join(admin.url, token, role, member, name or member, Keyring(folder)))


# --- init ------------------------------------------------------------------------------------------


def test_init_makes_a_network_and_says_what_comes_next(alone, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = alone.good("network", "init", "--host", "reducer.example.org")
    fingerprint = parse_token("admin", Path("network/admin.token").read_text()).fingerprint
    assert fingerprint in out
    for words in ("network/admin.token", "--network-dir network", "https://reducer.example.org:8090",
                  "fedn token create --role client", "--join-file"):  # fmt: skip
        assert words in out
    for file in Path("network").rglob("*"):
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file


def test_init_shows_no_secret(alone, tmp_path):
    for flags in ((), ("--json",)):
        folder = tmp_path / f"n{len(flags)}"
        out = alone.good("network", "init", "--dir", folder, *flags)
        secret = parse_token("admin", (folder / "admin.token").read_text()).secret
        assert secret not in out
        assert "PRIVATE" not in out
    shape = json.loads(out)
    assert shape["admin_token_file"] == str(folder / "admin.token")
    assert len(shape["fingerprint"]) == 64


def test_init_never_touches_a_network_that_is_there(alone, tmp_path):
    alone.good("network", "init", "--dir", tmp_path / "n")
    before = {file: file.read_bytes() for file in (tmp_path / "n").iterdir() if file.is_file()}
    assert "holds a network already" in alone.refused(1, "network", "init", "--dir", tmp_path / "n")
    assert before == {file: file.read_bytes() for file in before}


def test_init_writes_what_can_be_typed(alone, tmp_path):
    folder = tmp_path / "my network"
    out = alone.good("network", "init", "--dir", folder, "--host", "2001:db8::1")
    assert f"--network-dir '{folder}'" in out
    assert "FEDN_URL=https://[2001:db8::1]:8090" in out


def test_init_names_a_wrong_host(alone, tmp_path):
    alone.refused(2, "network", "init", "--dir", tmp_path / "n", "--host", "not a host")
    assert not (tmp_path / "n" / "network.json").exists()


# --- who asks --------------------------------------------------------------------------------------


def test_whoami(admin, tmp_path):
    assert admin.json("whoami")["role"] == "admin"
    assert "admin admin, until" in admin.good("whoami")
    _, file = new_token(admin, tmp_path, "viewer", "--name", "ada")
    assert "viewer ada" in admin.holding(file).good("whoami")
    assert "viewer ada" in admin.good("whoami", "--token-file", file)


def test_without_identity_everybody_is_anybody(fedn):
    assert fedn.json("whoami")["role"] == "anybody"
    for args in (["token", "list"], ["network", "members"]):
        assert "fedn network init" in fedn.refused(4, *args)
    assert "fedn network init" in fedn.refused(1, "token", "create", "--role", "client")
    assert "whole: 0 entries" in fedn.good("audit", "verify")


def test_no_token_a_wrong_one_and_one_of_another_network(admin, alone, fedn_at, tmp_path):
    assert "--token-file" in fedn_at(admin.url).refused(5, "status")
    made, file = new_token(admin, tmp_path, "viewer")
    text = file.read_text().strip()
    changed = "A" if text[-2] != "A" else "B"
    file.write_text(f"{text[:-2]}{changed}{text[-1]}")
    message = admin.holding(file).refused(5, "status")
    assert text[-43:] not in message
    assert made["token"] not in message
    other = tmp_path / "other"
    alone.good("network", "init", "--dir", other)
    assert "not the one of this token" in admin.holding(other / "admin.token").refused(5, "status")


def test_a_role_that_may_not_is_told_which_may(admin, tmp_path):
    _, viewer = new_token(admin, tmp_path, "viewer")
    _, operator = new_token(admin, tmp_path, "operator")
    admin.holding(viewer).good("status")
    message = admin.holding(viewer).refused(5, "session", "start")
    assert "that takes the role admin or operator" in message
    message = admin.holding(operator).refused(5, "token", "create", "--role", "viewer")
    assert message.endswith("that takes the role admin")


def test_a_join_token_lets_nobody_log_in(admin, tmp_path):
    _, file = new_token(admin, tmp_path, "client")
    assert "to join with" in admin.holding(file).refused(5, "status")


def test_a_token_ends_when_it_is_revoked_or_expires(admin, clock, tmp_path):
    made, file = new_token(admin, tmp_path, "viewer")
    viewer = admin.holding(file)
    viewer.good("status")
    admin.good("token", "revoke", made["token"][:8])
    assert "revoked" in viewer.refused(5, "status")
    _, file = new_token(admin, tmp_path, "viewer", "--expires", "5m")
    clock.ahead = 400.0
    assert "expired" in admin.holding(file).refused(5, "status")


def test_plain_http_to_this_reducer_is_told_so(admin, fedn_at):
    message = fedn_at(admin.url.replace("https", "http")).refused(2, "status")
    assert "ask for https://" in message


def test_a_company_certificate_is_checked_by_its_bundle(admin, network):
    """The reducer's own certificate also bears the names of this machine, so its authority serves as one."""
    bundle = network.directory / "ca.pem"
    admin.good("status", "--ca-bundle", bundle)
    assert "can't be used" in admin.refused(2, "status", "--ca-bundle", network.directory / "nowhere")
    assert "not by the authority" in admin.refused(3, "status", "--ca-bundle", certifi.where())


# --- tokens ----------------------------------------------------------------------------------------


def test_a_token_stands_alone_on_stdout(admin):
    result = admin("token", "create", "--role", "client", "--name", "clinic-3")
    assert result.exit_code == 0, result.output
    text = parse_token("stdout", result.stdout)
    assert result.stdout == text.reveal() + "\n"
    assert text.secret not in result.stderr
    assert "for 1 use" in result.stderr


def test_a_token_in_a_file_is_its_owners_alone_and_nowhere_else(admin, tmp_path):
    result = admin("token", "create", "--role", "client", "-o", tmp_path / "t")
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    text = parse_token("file", (tmp_path / "t").read_text())
    assert text.secret not in result.stderr
    assert stat.S_IMODE((tmp_path / "t").stat().st_mode) == 0o600
    assert "is there already" in admin.refused(2, "token", "create", "--role", "client", "-o", tmp_path / "t")
    assert len(admin.json("token", "list")["tokens"]) == 2  # with the admin's own
    admin.refused(2, "token", "create", "--role", "viewer", "--uses", "3", "-o", tmp_path / "u")
    assert not (tmp_path / "u").exists()


def test_what_a_token_is_for_is_said_and_listed(admin, tmp_path):
    flags = ("--name", "n", "--uses", "3", "--expires", "7d", "--labels", "site=north", "--labels", "n=1")
    made, _ = new_token(admin, tmp_path, "client", *flags)
    assert "text" not in made
    assert made["labels"] == {"site": "north", "n": "1"}
    assert made["expires_at"] - made["created_at"] == pytest.approx(7 * 86_400)
    listed = admin.json("token", "list")["tokens"]
    assert {item["token"] for item in listed} >= {made["token"]}
    assert all("text" not in item and "secret" not in json.dumps(item) for item in listed)
    out = admin.good("token", "list")
    for words in (made["token"], "n=1 site=north", "0 of 3", "admin:admin"):
        assert words in out
    admin.good("token", "revoke", made["token"])
    assert "revoked 2" in admin.good("token", "list")


def test_an_unknown_token_can_not_be_revoked_nor_the_last_admin(admin):
    assert "fedn token list" in admin.refused(4, "token", "revoke", "zzz")
    [mine] = admin.json("token", "list")["tokens"]
    assert "last token" in admin.refused(1, "token", "revoke", mine["token"])


# --- members ---------------------------------------------------------------------------------------


def test_members_are_listed_and_revoked(admin, tmp_path):
    _, file = new_token(admin, tmp_path, "client", "--uses", "2", "--labels", "site=north")
    joined(admin, file, "a-1", tmp_path / "a", name="a")
    joined(admin, file, "b-1", tmp_path / "b", name="b")
    out = admin.good("network", "members")
    for words in ("a-1", "b-1", "site=north", "until 2"):
        assert words in out
    assert "--yes" in admin.refused(2, "network", "revoke", "a")  # nobody sits at a terminal
    assert admin.json("network", "revoke", "a", "--yes")["member"] == "a-1"
    assert "Client b-1 is revoked" in admin.good("network", "revoke", "b-1", "--role", "client", "--yes")
    assert [m["revoked_at"] > 0 for m in admin.json("network", "members")["members"]] == [True, True]
    assert "revoked 2" in admin.good("network", "members")
    assert "no member 'z'" in admin.refused(4, "network", "revoke", "z", "--yes")


def test_a_combiner_is_revoked_although_a_client_is_called_like_it(admin, tmp_path):
    _, file = new_token(admin, tmp_path, "client")
    joined(admin, file, "a-1", tmp_path / "a", name="north")
    _, file = new_token(admin, tmp_path, "combiner")
    joined(admin, file, "north", tmp_path / "north", Role.COMBINER)
    assert "--exact" in admin.refused(2, "network", "revoke", "north", "--yes")
    assert not any(m["revoked_at"] for m in admin.json("network", "members")["members"])
    assert admin.json("network", "revoke", "north", "--exact", "--yes")["role"] == "combiner"


def test_whoever_sits_at_a_terminal_is_asked(admin, tmp_path):
    _, file = new_token(admin, tmp_path, "client")
    joined(admin, file, "a-1", tmp_path / "a")
    env = {"FEDN_URL": admin.url, "FEDN_TOKEN_FILE": admin.token_file, "PATH": os.environ["PATH"]}
    command = [sys.executable, "-m", "fedn", "network", "revoke", "a-1"]
    for answer, code in (("n", 1), ("y", 0)):
        terminal, theirs = pty.openpty()
        with subprocess.Popen(command, stdin=theirs, stderr=subprocess.PIPE, env=env, text=True) as asked:
            os.write(terminal, f"{answer}\n".encode())
            _, told = asked.communicate(timeout=60)
        os.close(terminal)
        os.close(theirs)
        assert asked.returncode == code, told
        assert "Revoke client a-1?" in told
        assert bool(admin.json("network", "members")["members"][0]["revoked_at"]) is (answer == "y")


def test_a_revoked_token_can_take_its_members_along(admin, tmp_path):
    made, file = new_token(admin, tmp_path, "client", "--uses", "2")
    joined(admin, file, "a-1", tmp_path / "a")
    assert "--yes" in admin.refused(2, "token", "revoke", made["token"], "--members")
    assert "and who joined" in admin.good("token", "revoke", made["token"], "--members", "--yes")
    [member] = admin.json("network", "members")["members"]
    assert member["revoked_at"]
    with pytest.raises(FednError, match="revoked"):
        joined(admin, file, "b-1", tmp_path / "b")


# --- the audit log ---------------------------------------------------------------------------------


def test_the_audit_log_is_shown_and_verified(admin, tmp_path):
    made, file = new_token(admin, tmp_path, "client")
    joined(admin, file, "a-1", tmp_path / "a")
    out = admin.good("audit", "show")
    for words in ("admin:admin", "token_created", made["token"], "client:a-1", "joined", "role=client"):
        assert words in out
    entries = [json.loads(line) for line in admin.good("audit", "show", "--json").splitlines()]
    assert [e["number"] for e in entries] == list(range(1, len(entries) + 1))
    assert file.read_text().strip()[-43:] not in json.dumps(entries)
    one = [json.loads(line) for line in admin.good(
        "audit", "show", "--json", "--after", "1", "--limit", "1").splitlines()]  # fmt: skip
    assert one == [entries[1]]
    report = admin.json("audit", "verify")
    assert (report["ok"], report["head"]) == (True, entries[-1]["digest"])
    assert f"Head {report['head']}" in admin.good("audit", "verify", "--pinned", entries[0]["digest"])
    gone = admin("audit", "verify", "--pinned", "ab" * 32)
    assert gone.exit_code == 1
    assert "is damaged" in gone.stdout


def test_an_audit_log_of_many_pages_is_shown_whole(admin, service):
    for number in range(1203):
        service.state.identity.append_audit(AuditNote(1.0, "nobody:x", "refused", f"s-{number}"))
    lines = admin.good("audit", "show", "--json").splitlines()
    assert len(lines) == 1203
    assert len(admin.good("audit", "show", "--json", "--limit", "700").splitlines()) == 700


def test_an_audit_log_is_verified_offline(alone, tmp_path):
    from fedn.stores import open_state

    url = f"sqlite:///{tmp_path}/state.db"
    state = open_state(url)
    for number in range(3):
        state.identity.append_audit(AuditNote(float(number), "admin:a", "model_seeded", "x"))
    state.close()
    assert alone.json("audit", "verify", "--state", url)["entries"] == 3
    file = tmp_path / "state.db"
    assert file.read_bytes().count(b'"model_seeded"') == 3
    file.write_bytes(file.read_bytes().replace(b'"model_seeded"', b'"model_seedes"', 1))
    damaged = alone("audit", "verify", "--state", url)
    assert damaged.exit_code == 1
    assert "Entry" in damaged.stdout


# --- what travels ----------------------------------------------------------------------------------


def test_a_model_travels_over_tls_and_the_page_asks_for_a_login(admin, service, small, tmp_path):
    file = tmp_path / "m.safetensors"
    file.write_bytes(small.model_file())
    digest = admin.json("model", "seed", file)["digest"]
    admin.good("model", "download", digest, "-o", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == file.read_bytes()
    events = [json.loads(line)["event"] for line in admin.good("audit", "show", "--json").splitlines()]
    assert {"model_seeded", "model_downloaded"} <= set(events)
