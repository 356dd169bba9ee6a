"""The folder that is a network: made once, opened often, and never half."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from crashes import crashes

from fedn.domain.errors import Conflict, Damaged, InvalidConfig, InvalidInput
from fedn.domain.identity import Role, parse_token
from fedn.identity.authority import AUTHORITY_SECONDS, Authority
from fedn.identity.certificates import issued_by, new_key, new_request, read_certificate, read_request
from fedn.identity.credentials import Credentials
from fedn.identity.network_dir import REDUCER_SECONDS, NetworkDir, create
from fedn.identity.tokens import secret_matches

NOW = 1_800_000_000.0
DAY = 86_400.0


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "network"


def test_what_init_made_the_reducer_opens(directory: Path) -> None:
    made = create(directory, "hospitals", ("fl.example.org",), NOW)
    opened = NetworkDir.open(directory, NOW)
    assert (opened.name, opened.hosts) == ("hospitals", ("fl.example.org",))
    assert opened.authority.fingerprint == made.fingerprint == made.token.fingerprint
    assert str(opened.wallet.current.principal) == "reducer:reducer"
    assert opened.wallet.current.expires_at == NOW + REDUCER_SECONDS
    assert opened.wallet.current.authority == opened.authority.certificate
    issued = opened.authority.issue(read_request(new_request(new_key(), Role.CLIENT, "ann")), NOW, DAY)
    assert issued_by(issued, opened.wallet.current.authority)


def test_the_admin_s_token_is_in_its_file_and_only_its_digest_elsewhere(directory: Path) -> None:
    made = create(directory, "n", (), NOW)
    text = parse_token("token", (directory / "admin.token").read_text())
    admin = NetworkDir.open(directory, NOW).admin
    assert text == made.token
    assert secret_matches(admin, text.secret)
    assert (admin.role, admin.uses, admin.token) == (Role.ADMIN, 0, text.token)
    assert admin.expires_at == NOW + AUTHORITY_SECONDS
    for path in directory.rglob("*"):
        if path.is_file() and path.name != "admin.token":
            assert text.secret.encode() not in path.read_bytes(), path
    assert text.secret not in repr(made)


def test_all_of_it_is_for_its_owner_alone(directory: Path) -> None:
    create(directory, "n", (), NOW)
    NetworkDir.open(directory, NOW)
    modes = {
        str(path.relative_to(directory)): stat.S_IMODE(path.stat().st_mode) for path in directory.rglob("*")
    }
    files = {"ca.pem", "ca.key", "admin.token", "network.json"}
    own = {"reducer/key.pem", "reducer/certificate.pem", "reducer/authority.pem"}
    assert modes == {**dict.fromkeys(files | own, 0o600), "reducer": 0o700}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_folder_that_holds_a_network_is_left_as_it_is(directory: Path) -> None:
    create(directory, "one", (), NOW)
    before = {path: path.read_bytes() for path in directory.iterdir()}
    with pytest.raises(Conflict, match="holds a network already; give another folder"):
        create(directory, "two", (), NOW)
    assert {path: path.read_bytes() for path in directory.iterdir()} == before


@pytest.mark.parametrize("file", ["ca.key", "ca.pem", "admin.token"])
def test_a_part_of_a_network_is_never_written_over(directory: Path, file: str) -> None:
    directory.mkdir()
    (directory / file).write_text("precious")
    with pytest.raises(Conflict, match=rf"holds a {file} but no network\.json"):
        create(directory, "n", (), NOW)
    assert [path.read_text() for path in directory.iterdir()] == ["precious"]


def test_an_init_that_is_killed_leaves_a_whole_network_or_none(tmp_path: Path) -> None:
    out = crashes(
        """
from fedn.domain.errors import Conflict, InvalidConfig
from fedn.identity.network_dir import NetworkDir, create
base = Path(sys.argv[1])
step, survived, found = 0, False, []
while not survived:
    step += 1
    directory = base / str(step)
    survived = crashing(step, lambda: create(directory, "n", (), 1.8e9))
    try:
        NetworkDir.open(directory, 1.8e9)
        found.append("whole")
    except InvalidConfig:
        found.append("none")
        try:
            create(directory, "n", (), 1.8e9)
        except Conflict as error:
            assert "cut short" in str(error), error
print(step, *dict.fromkeys(found))
""",
        tmp_path,
    )
    steps, *found = out.split()
    assert int(steps) > 10
    assert found == ["none", "whole"]


@pytest.mark.parametrize("name", ["", " n", "n\n", "n\x00", "x" * 65])
def test_a_name_is_short_and_printable(directory: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="name: "):
        create(directory, name, (), NOW)
    assert not directory.exists()


@pytest.mark.parametrize("hosts", [("a b",), ("http://fl.example.org",), ("*",), tuple("ab" * 17)])
def test_hosts_are_names_or_addresses(directory: Path, hosts: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput, match="hosts: "):
        create(directory, "n", hosts, NOW)
    assert not directory.exists()


# --- the reducer's own certificate -----------------------------------------------------------------


def serial(credentials: Credentials) -> str:
    return read_certificate(credentials.certificate).serial


def test_the_reducer_s_certificate_is_kept_and_renewed_halfway(directory: Path) -> None:
    create(directory, "n", (), NOW)
    first = NetworkDir.open(directory, NOW).wallet.current
    again = NetworkDir.open(directory, NOW + 44 * DAY)
    assert again.wallet.current == first
    assert not again.renew(NOW + 44 * DAY)
    told: list[Credentials] = []
    again.wallet.on_change(told.append)
    assert again.renew(NOW + 46 * DAY)
    assert told == [again.wallet.current]
    assert serial(again.wallet.current) != serial(first)
    assert again.wallet.current.key == first.key
    assert again.wallet.current.expires_at == NOW + 46 * DAY + REDUCER_SECONDS
    assert NetworkDir.open(directory, NOW + 47 * DAY).wallet.current == again.wallet.current


def test_a_reducer_that_was_off_for_a_year_comes_back_with_a_new_certificate(directory: Path) -> None:
    create(directory, "n", (), NOW)
    first = NetworkDir.open(directory, NOW).wallet.current
    back = NetworkDir.open(directory, NOW + 365 * DAY).wallet.current
    assert back.key == first.key
    assert back.expires_at == NOW + 365 * DAY + REDUCER_SECONDS


def test_a_host_that_was_added_to_the_file_is_in_the_next_certificate(directory: Path) -> None:
    create(directory, "n", (), NOW)
    first = NetworkDir.open(directory, NOW).wallet.current
    file = directory / "network.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "hosts": ["fl.example.org"]}))
    opened = NetworkDir.open(directory, NOW)
    assert serial(opened.wallet.current) != serial(first)
    assert opened.authority.is_reducer(opened.wallet.current.certificate, ("fl.example.org",))


# --- damage ----------------------------------------------------------------------------------------


def test_a_folder_without_a_network_says_how_to_make_one(directory: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"holds no network — make one with `fedn network init`"):
        NetworkDir.open(directory)


@pytest.mark.parametrize(
    "file", ["ca.pem", "ca.key", "network.json", "reducer/key.pem", "reducer/certificate.pem"]
)
@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 100, b"x" * 100_000])
def test_damage_is_told_as_such(directory: Path, file: str, content: bytes) -> None:
    create(directory, "n", (), NOW)
    NetworkDir.open(directory, NOW)
    (directory / file).write_bytes(content)
    with pytest.raises(Damaged):
        NetworkDir.open(directory, NOW)


@pytest.mark.parametrize("file", ["ca.pem", "ca.key"])
def test_a_missing_file_is_named(directory: Path, file: str) -> None:
    create(directory, "n", (), NOW)
    (directory / file).unlink()
    with pytest.raises(Damaged, match=rf"{file} is missing; bring it back"):
        NetworkDir.open(directory, NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""}, {"hosts": "fl.example.org"}, {"hosts": ["a b"]}, {"admin": None}, {"admin": {}},
        {"fingerprint": "00" * 32},
    ],
)  # fmt: skip
def test_an_edited_network_json_is_not_believed(directory: Path, change: dict[str, object]) -> None:
    create(directory, "n", (), NOW)
    file = directory / "network.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(Damaged):
        NetworkDir.open(directory, NOW)


def test_the_authority_of_another_network_is_not_taken(directory: Path, tmp_path: Path) -> None:
    create(directory, "n", (), NOW)
    other = Authority.create("n", NOW)
    (directory / "ca.pem").write_bytes(other.certificate)
    (directory / "ca.key").write_bytes(other.reveal_key())
    with pytest.raises(Damaged, match=r"ca\.pem is not the authority that network\.json names"):
        NetworkDir.open(directory, NOW)


def test_an_authority_that_has_expired_says_so(directory: Path) -> None:
    create(directory, "n", (), NOW)
    with pytest.raises(InvalidConfig, match="has expired"):
        NetworkDir.open(directory, NOW + AUTHORITY_SECONDS + DAY)


def test_nothing_shows_a_secret(directory: Path) -> None:
    create(directory, "n", (), NOW)
    opened = NetworkDir.open(directory, NOW)
    for shown in (repr(opened), repr(opened.authority), repr(opened.wallet), repr(opened.wallet.current)):
        assert "PRIVATE" not in shown
        assert opened.admin.secret_digest not in shown
