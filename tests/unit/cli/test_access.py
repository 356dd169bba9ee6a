"""A person's token: where it is read from, whom it is shown to, and that it is never repeated."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

import click
import pytest
from click.testing import CliRunner

from fedn.cli.network import the_one
from fedn.cli.options import read_labels, settings_options
from fedn.cli.root import exit_code, root
from fedn.cli.token import seconds
from fedn.config import TIERS
from fedn.domain import errors
from fedn.domain.identity import TokenText
from fedn.sdk import access

SECRET = "s3cret-s3cret-s3cret-s3cret-s3cret-s3cret-s"
TOKEN = TokenText("ab" * 32, "cd" * 8, SECRET).reveal()
OTHER = TokenText("ab" * 32, "ef" * 8, SECRET).reveal()


# --- where it comes from ---------------------------------------------------------------------------


def test_a_token_comes_from_a_file_or_the_environment(tmp_path):
    file, other = tmp_path / "token", tmp_path / "other"
    file.write_text(f"  {TOKEN}\n")
    other.write_text(OTHER)
    assert access.read_token(None, {}) == ""
    assert access.read_token(None, {"FEDN_TOKEN": TOKEN}) == TOKEN
    assert access.read_token(None, {"FEDN_TOKEN_FILE": str(file)}) == TOKEN
    beaten = {"FEDN_TOKEN": OTHER, "FEDN_TOKEN_FILE": str(other)}
    assert access.read_token(file, beaten) == TOKEN  # a flag beats the environment


def test_two_tokens_in_the_environment_are_one_too_many(tmp_path):
    with pytest.raises(errors.InvalidInput, match="FEDN_TOKEN are both set"):
        access.read_token(None, {"FEDN_TOKEN": TOKEN, "FEDN_TOKEN_FILE": str(tmp_path)})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (TOKEN[:-1].encode(), "is not a token"),
        (TOKEN.replace("fedn1", "fedn2").encode(), "is not a token"),
        (TOKEN.encode() + b"\n" + TOKEN.encode(), "is not a token"),
        (b"\xff" * 10_000_000, "is not a token"),
    ],
    ids=["nothing", "space", "cut off", "of another kind", "two", "large"],
)
def test_what_is_no_token_is_named_by_its_file_and_not_repeated(alone, tmp_path, content, words):
    file = tmp_path / "mine.token"
    file.write_bytes(content)
    message = alone.refused(2, "whoami", "--token-file", file)
    assert "mine.token" in message
    assert words in message
    assert SECRET[:-1] not in message


def test_a_token_file_that_is_not_there_is_named(alone, tmp_path):
    assert "can't be read" in alone.refused(2, "whoami", "--token-file", tmp_path / "nowhere")


def test_a_token_that_is_given_in_place_of_its_file_is_not_repeated(alone):
    token = f"fedn1.{'a' * 64}.{'b' * 16}.{'c' * 43}"
    message = alone.refused(2, "whoami", "--token-file", token)
    assert "--token-file: can't be read" in message
    assert "cccc" not in message


# --- whom it is shown to ---------------------------------------------------------------------------


def test_no_option_takes_a_token_itself():
    """Arguments can be seen by every user of a machine."""
    for name in ("status", "whoami"):
        options = {o for p in root.get_command(click.Context(root), name).params for o in p.opts}
        assert "--token-file" in options
        assert "--token" not in options


def test_over_plain_http_a_token_stays_here(alone, monkeypatch):
    monkeypatch.setenv("FEDN_TOKEN", TOKEN)
    message = alone.refused(2, "status", "--reducer", "http://reducer.example.org:8090")
    assert "plain http" in message
    assert SECRET not in message
    assert access.headers("http://127.0.0.1:8090", TOKEN, loopback=True) == {}
    assert access.headers("https://r.example.org", TOKEN, loopback=False)["Authorization"].endswith(SECRET)


def test_https_without_a_token_says_how_to_give_one(alone):
    message = alone.refused(5, "status", "--reducer", "https://127.0.0.1:9")
    assert "--token-file" in message
    assert "FEDN_TOKEN_FILE" in message


def test_nobody_at_an_https_address_is_unavailable(alone, monkeypatch):
    monkeypatch.setenv("FEDN_TOKEN", TOKEN)
    message = alone.refused(3, "status", "--reducer", "https://127.0.0.1:9")
    assert "https://127.0.0.1:9" in message


def test_https_to_a_plain_reducer_says_so(fedn, monkeypatch):
    monkeypatch.setenv("FEDN_TOKEN", TOKEN)
    message = fedn.refused(3, "status", "--reducer", fedn.url.replace("http:", "https:"))
    assert "speaks http:// alone" in message


def test_a_stranger_that_hangs_up_is_unavailable(alone, monkeypatch):
    def hang_up() -> None:
        with suppress(OSError):  # the test is over
            while True:
                connection, _ = server.accept()
                with connection:
                    connection.recv(65536)  # unread, it would make the end a reset, sometimes

    server = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=hang_up, daemon=True)
    thread.start()
    monkeypatch.setenv("FEDN_TOKEN", TOKEN)
    alone.refused(3, "status", "--reducer", f"https://127.0.0.1:{server.getsockname()[1]}")
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


# --- words -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "value"), [("90s", 90), ("30m", 1800), ("24h", 86_400), ("7d", 604_800)])
def test_times_are_read(text, value):
    assert seconds(None, None, text) == value


@pytest.mark.parametrize("text", ["", "7", "h", "0h", "-1h", "1.5h", "7 d", "1w", "9999999d"])
def test_what_is_no_time_is_refused(alone, text):
    assert "30m, 24h or 7d" in alone.refused(2, "token", "create", "--role", "client", "--expires", text)


def test_labels_stay_texts(alone):
    assert read_labels(["a=1", "b=true", "c=x=y"], "--labels") == {"a": "1", "b": "true", "c": "x=y"}
    assert "'a' is not name=value" in alone.refused(2, "token", "create", "--role", "client", "--labels", "a")


def member(role: str, member: str, name: str, revoked_at: float = 0.0) -> dict[str, object]:
    return {"role": role, "member": member, "name": name, "revoked_at": revoked_at}


MEMBERS = [
    member("client", "a-1", "a"),
    member("client", "b-1", "b"),
    member("client", "b-2", "b"),
    member("combiner", "a", "a"),
    member("client", "c-1", "c", revoked_at=1.0),
    member("client", "c-2", "c"),
    member("client", "d", "d"),
    member("client", "e", "e", revoked_at=1.0),
    member("client", "e-1", "e"),
    member("client", "f", "f"),
    member("client", "f-1", "f", revoked_at=1.0),
]


@pytest.mark.parametrize(
    ("name", "role", "found"),
    [
        ("a-1", None, "a-1"),
        ("a", "combiner", "a"),
        ("a", "client", "a-1"),
        ("d", None, "d"),
        ("f", None, "f"),
        ("b-2", None, "b-2"),
        ("c", None, "c-2"),  # who is revoked already is not meant
        ("c-1", None, "c-1"),
    ],
)
def test_a_member_is_found_by_id_or_name(name, role, found):
    assert the_one(MEMBERS, name, role)["member"] == found


def test_a_member_that_is_nobody_or_several_is_named():
    with pytest.raises(errors.InvalidInput, match=r"is 2 members .*give the id of one"):
        the_one(MEMBERS, "b", None)
    with pytest.raises(errors.InvalidInput, match=r"is 2 members \(combiner a, client a-1\).* --exact"):
        the_one(MEMBERS, "a", None)
    with pytest.raises(errors.InvalidInput, match=r"is 2 members \(client e, client e-1\).* --exact"):
        the_one(MEMBERS, "e", None)
    with pytest.raises(errors.NotFound, match="no member 'z'"):
        the_one(MEMBERS, "z", None)
    with pytest.raises(errors.NotFound):
        the_one(MEMBERS, "a-1", "combiner")


def test_an_id_that_is_meant_exactly_is_no_name():
    for name in ("a", "e", "d"):
        assert the_one(MEMBERS, name, None, exact=True)["member"] == name
    with pytest.raises(errors.NotFound):
        the_one(MEMBERS, "b", None, exact=True)
    both = [*MEMBERS, member("combiner", "d", "d")]
    with pytest.raises(errors.InvalidInput, match="--role client or --role combiner"):
        the_one(both, "d", None, exact=True)
    assert the_one(both, "d", "client", exact=True)["role"] == "client"


@pytest.mark.parametrize("kind", [errors.Unauthenticated, errors.Forbidden, errors.Revoked])
def test_who_may_not_gets_an_exit_code_of_its_own(kind):
    assert exit_code(kind("no")) == 5


# --- secrets among the settings --------------------------------------------------------------------


@pytest.mark.parametrize("tier", ["combiner", "client"])
def test_a_secret_setting_shows_no_default_and_warns(tier):
    @click.command()
    @settings_options(TIERS[tier])
    def start(**_: object) -> None: ...

    (option,) = (p for p in start.params if p.name == "join")
    assert isinstance(option, click.Option)
    assert "Other users can see arguments" in str(option.help)
    assert "default" not in str(option.help)
    out = CliRunner().invoke(start, ["--help"]).output
    assert "SecretStr" not in out


def test_a_token_given_as_an_argument_is_never_repeated(alone):
    start = ["client", "start", "--app", "a:b", "--reducer", "https://127.0.0.1:9"]
    for wrong in (SECRET, TOKEN + "x", TOKEN.replace("fedn1", "fedn2")):
        message = alone.refused(2, *start, "--join", wrong)
        assert "join: is not a token" in message
        assert SECRET not in message
    message = alone.refused(2, "client", "start", "--app", "a:b", "--join", TOKEN)
    assert "plain HTTP" in message
    assert SECRET not in message


def test_config_show_hides_a_token(alone, monkeypatch):
    monkeypatch.setenv("FEDN_CLIENT_JOIN", TOKEN)
    monkeypatch.setenv("FEDN_CLIENT_REDUCER", "https://127.0.0.1:9")
    for flags in ((), ("--json",)):
        out = alone.good("config", "show", "client", *flags)
        assert SECRET not in out
        assert "***" in out
