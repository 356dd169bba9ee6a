"""Settings: where a value comes from, and what a person is told when one is wrong."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from fedn.cli.root import root
from fedn.cli.start import prepare
from fedn.config import (
    TIERS,
    ClientSettings,
    CombinerSettings,
    ReducerSettings,
    Settings,
    exposed,
    gather,
    is_loopback,
    load,
)
from fedn.domain.errors import InvalidConfig

EXAMPLES = Path(__file__).parents[2] / "examples" / "settings"


def refused(kind: type[Settings], **overrides: object) -> str:
    with pytest.raises(InvalidConfig) as caught:
        load(kind, None, overrides, {})
    return str(caught.value)


@pytest.mark.parametrize("tier", TIERS)
def test_the_defaults_stand_alone_and_every_setting_says_what_it_is(tier):
    settings = load(TIERS[tier], None, {}, {})
    assert settings.tier == tier
    assert all(field.description for field in TIERS[tier].model_fields.values())


@pytest.mark.parametrize("tier", TIERS)
def test_what_config_show_prints_reads_back_as_the_same_settings(tier, tmp_path):
    settings = load(TIERS[tier], None, {}, {})
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump(settings.as_dict()))
    assert load(TIERS[tier], file, {}, {}) == settings


@pytest.mark.parametrize("tier", TIERS)
def test_the_example_files_are_good(tier):
    load(TIERS[tier], EXAMPLES / f"settings-{tier}.yaml", {}, {})


def test_a_flag_beats_the_environment_and_that_beats_the_file(tmp_path):
    file = tmp_path / "settings-reducer.yaml"
    file.write_text("port: 1\nhttp_threads: 10\nevent_streams: 3\nmax_model_bytes: 1MiB\n")
    environ = {"FEDN_REDUCER_PORT": "2", "FEDN_REDUCER_HTTP_THREADS": "20", "FEDN_URL": "http://elsewhere"}
    settings = load(ReducerSettings, file, {"port": 3}, environ)
    assert (settings.port, settings.http_threads, settings.event_streams) == (3, 20, 3)
    assert settings.max_model_bytes == 2**20


def test_the_environment_is_read_by_the_type_of_the_field():
    environ = {
        "FEDN_CLIENT_KEEP_UPDATES": "1",
        "FEDN_CLIENT_APP_OPTIONS": "{index: 3, skew: 0.5}",
        "FEDN_CLIENT_STATE_DIR": "somewhere",
        "FEDN_CLIENT_NAME": "007",
        "FEDN_COMBINER_PORT": "not ours",
    }
    settings = load(ClientSettings, None, {}, environ)
    assert settings.keep_updates is True
    assert settings.app_options == {"index": 3, "skew": 0.5}
    assert settings.state_dir == Path("somewhere")
    assert settings.name == "007"


def test_an_unknown_key_is_named_with_its_file_and_the_nearest_known_one(tmp_path):
    file = tmp_path / "settings-reducer.yaml"
    file.write_text("prot: 8090\n")
    with pytest.raises(InvalidConfig) as caught:
        load(ReducerSettings, file, {}, {})
    message = str(caught.value)
    assert message.startswith("prot: ")
    assert str(file) in message
    assert "did you mean 'port'?" in message
    assert caught.value.details["field"] == "prot"


def test_an_unknown_variable_is_named():
    with pytest.raises(InvalidConfig, match=r"FEDN_COMBINER_HOTS: .*environment.*did you mean 'host'"):
        load(CombinerSettings, None, {}, {"FEDN_COMBINER_HOTS": "x"})


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("port: high", ["port: 'high' is not a whole number", "settings.yaml", "give a whole number"]),
        ("port: '8090'", ["port: '8090' is not a whole number"]),
        ("port: 70000", ["port: 70000 is out of bounds", "65535"]),
        ("host: 5", ["host: 5 is not a text"]),
        ("log_json: 1", ["log_json: 1 is not true or false"]),
        ("log_level: loud", ["log_level: 'loud' is not debug, info, warning or error"]),
        ("max_model_bytes: many", ["max_model_bytes: 'many' is not a number of bytes"]),
        ("combiner_grace: 0", ["combiner_grace: 0 is out of bounds", "greater than 0"]),
        ("- port", ["settings.yaml: does not hold settings"]),
        ("port: [", ["settings.yaml: is not YAML"]),
        ("port: 1\nport: 2", ["'port' is given twice"]),
    ],
)
def test_a_wrong_value_is_named_with_what_to_do(tmp_path, text, parts):
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    with pytest.raises(InvalidConfig) as caught:
        load(ReducerSettings, file, {}, {})
    for part in parts:
        assert part in str(caught.value)


def test_a_wrong_variable_is_named():
    with pytest.raises(InvalidConfig, match=r"port: 'x' is not a whole number.*FEDN_REDUCER_PORT"):
        load(ReducerSettings, None, {}, {"FEDN_REDUCER_PORT": "x"})


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InvalidConfig, match=r"nowhere\.yaml: can't be read"):
        load(ReducerSettings, tmp_path / "nowhere.yaml", {}, {})


BEYOND = ["0.0.0.0", "::", "", "10.0.0.5", "example.org", "127.0.0.1.example.org"]


@pytest.mark.parametrize("kind", [ReducerSettings, CombinerSettings])
@pytest.mark.parametrize("host", BEYOND)
def test_a_host_beyond_loopback_is_refused_unless_told_loudly(kind, host):
    message = refused(kind, host=host)
    assert message.startswith("host: ")
    assert "other machines" in message
    assert "--insecure-no-tls-no-auth" in message
    loud = load(kind, None, {"host": host, "insecure_no_tls_no_auth": True}, {})
    assert loud.host == host
    assert loud.insecure


def test_the_remedy_is_an_identity():
    assert "fedn network init" in refused(ReducerSettings, host="0.0.0.0")
    assert "https:// address and a token" in refused(CombinerSettings, host="0.0.0.0")


@pytest.mark.parametrize("host", BEYOND)
def test_with_an_identity_every_host_is_good_and_nothing_is_insecure(host):
    reducer = load(ReducerSettings, None, {"host": host, "network_dir": "network"}, {})
    combiner = load(CombinerSettings, None, {"host": host, "reducer": "https://reducer:8090"}, {})
    assert (reducer.insecure, combiner.insecure) == (False, False)


def test_an_identity_and_the_flag_for_none_contradict_each_other():
    for kind, identity in (
        (ReducerSettings, {"network_dir": "n"}),
        (CombinerSettings, {"reducer": "https://r"}),
        (ClientSettings, {"reducer": "https://r"}),
    ):
        message = refused(kind, insecure_no_tls_no_auth=True, **identity)
        assert message.startswith("insecure_no_tls_no_auth: contradicts")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_no_flag(host):
    assert is_loopback(host)
    assert not load(ReducerSettings, None, {"host": host}, {}).insecure


@pytest.mark.parametrize("kind", [CombinerSettings, ClientSettings])
@pytest.mark.parametrize("url", ["http://reducer:8090", "http://10.0.0.5", "http://127.0.0.1.example.org"])
def test_a_plain_reducer_on_another_machine_is_refused_unless_told_loudly(kind, url):
    message = refused(kind, reducer=url)
    assert message.startswith(f"reducer: '{url}' is plain HTTP to another machine")
    assert "https://" in message
    assert "--join-file" in message
    assert "--insecure-no-tls-no-auth" in message
    environ = {f"FEDN_{kind.tier.upper()}_INSECURE_NO_TLS_NO_AUTH": "true"}
    loud = load(kind, None, {"reducer": url}, environ)
    assert loud.insecure
    assert loud.plain_beyond


@pytest.mark.parametrize("kind", [CombinerSettings, ClientSettings])
@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8090", "http://[::1]:8090", "http://localhost", "https://r"]
)
def test_a_reducer_here_or_behind_tls_needs_no_flag(kind, url):
    settings = load(kind, None, {"reducer": url}, {})
    assert (settings.insecure, settings.plain_beyond) == (False, False)


def test_a_certificate_for_browsers_comes_with_its_key_and_an_identity():
    assert "https_key: is missing" in refused(ReducerSettings, network_dir="n", https_certificate="c.pem")
    assert "https_certificate: is missing" in refused(ReducerSettings, network_dir="n", https_key="k.pem")
    message = refused(ReducerSettings, https_certificate="c.pem", https_key="k.pem")
    assert "https_certificate: needs network_dir" in message


# --- secrets ---------------------------------------------------------------------------------------

SECRET = "s" * 43
TOKEN = f"fedn1.{'a' * 64}.{'b' * 16}.{SECRET}"
NETWORK = {"reducer": "https://reducer:8090"}


@pytest.mark.parametrize("kind", [CombinerSettings, ClientSettings])
def test_a_token_is_read_and_never_shown(kind, tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text(f"join: {TOKEN}\nreducer: https://reducer:8090\n")
    settings = load(kind, file, {}, {})
    assert settings.token().reveal() == TOKEN
    assert settings.as_dict()["join"] == "***"
    given = gather(kind, file, {"join": TOKEN}, {f"FEDN_{kind.tier.upper()}_JOIN": TOKEN})
    for shown in (
        repr(settings),
        str(settings),
        settings.model_dump_json(),
        repr(given),
        repr(settings.token()),
    ):
        assert SECRET not in shown


@pytest.mark.parametrize("text", [TOKEN, TOKEN + "\n", TOKEN + "\r\n", f"  {TOKEN}\n\n"])
def test_a_token_may_lie_in_a_file(tmp_path, text):
    file = tmp_path / "token"
    file.write_text(text)
    settings = load(ClientSettings, None, NETWORK, {"FEDN_CLIENT_JOIN_FILE": str(file)})
    assert settings.token().reveal() == TOKEN


def test_without_a_token_there_is_none():
    assert load(ClientSettings, None, {}, {}).token() is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "can't be read (No such file or directory)"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (SECRET.encode(), "is not a token"),
        (b"\xff\x00", "is not a token"),
        (TOKEN.encode() * 100, "holds too much"),
    ],
)
def test_a_token_file_that_holds_none_is_named(tmp_path, content, words):
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    settings = load(ClientSettings, None, {"join_file": str(file), **NETWORK}, {})
    with pytest.raises(InvalidConfig) as caught:
        settings.token()
    assert caught.value.details["field"] == "join_file"
    assert words in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("value", [SECRET, 5, [SECRET], {"a": SECRET}, f"fedn1.{SECRET}"])
def test_a_wrong_token_is_refused_without_repeating_it(value):
    message = refused(ClientSettings, join=value, **NETWORK)
    assert message.startswith("join: ")
    assert SECRET not in message


def test_a_token_does_not_travel_in_the_clear():
    for given in ({"join": TOKEN}, {"join_file": "token"}):
        message = refused(ClientSettings, reducer="http://reducer:8090", **given)
        assert message.startswith("reducer: ")
        assert "https://" in message
    assert "beside join_file" in refused(ClientSettings, join=TOKEN, join_file="token", **NETWORK)


@pytest.mark.parametrize(("mode", "warned"), [(0o644, True), (0o640, False), (0o600, False)])
def test_a_settings_file_with_a_secret_that_everybody_may_read_is_warned_of(tmp_path, mode, warned):
    file = tmp_path / "settings.yaml"
    file.write_text(f"join: {TOKEN}\n")
    file.chmod(mode)
    assert bool(exposed(ClientSettings, file)) is warned
    file.write_text("name: x\n")
    assert exposed(ClientSettings, file) == ""
    assert exposed(ClientSettings, None) == ""


def test_config_show_hides_a_token_and_says_where_it_comes_from():
    for flags in ([], ["--json"]):
        environ = {"FEDN_CLIENT_JOIN": TOKEN, "FEDN_CLIENT_REDUCER": "https://reducer", "COLUMNS": "300"}
        result = CliRunner().invoke(root, ["config", "show", "client", *flags], env=environ)
        assert result.exit_code == 0
        assert SECRET not in result.output
        assert "***" in result.output
        assert "FEDN_CLIENT_JOIN)" in result.output


def test_a_start_warns_of_a_file_that_shows_its_token(tmp_path, capfd):
    file = tmp_path / "settings.yaml"
    file.write_text(f"join: {TOKEN}\nreducer: https://reducer\n")
    file.chmod(0o644)
    before = logging.getLogger().handlers[:]
    try:
        prepare(ClientSettings, file, {}, as_json=False)
    finally:
        logging.getLogger().handlers[:] = before
    said = capfd.readouterr().err
    assert f"WARNING client {file} holds join" in said
    assert SECRET not in said


def test_a_bundle_of_authorities_that_is_not_there_is_named(tmp_path):
    assert "ca_bundle: " in refused(ClientSettings, ca_bundle=str(tmp_path / "nowhere.pem"))
    assert "store_ca_bundle: " in refused(CombinerSettings, store_ca_bundle=str(tmp_path / "nowhere.pem"))


def test_names_and_addresses_are_checked():
    assert "is not an address" in refused(CombinerSettings, reducer="127.0.0.1:8090")
    assert "is not an address" in refused(ClientSettings, reducer="http://user:password@reducer")
    assert "name: '../x' is not a valid name" in refused(CombinerSettings, name="../x")
    assert "app: 'digits' names no factory" in refused(ClientSettings, app="digits")
    assert "event_streams" in refused(ReducerSettings, event_streams=48)


def test_settings_are_frozen():
    settings = load(ReducerSettings, None, {}, {})
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1


def test_data_has_a_number_only_where_the_name_has_one():
    data = "/data/client-{slot}.npz"
    assert "'ann' has no number" in refused(ClientSettings, name="ann", data=data)
    for name in ("", "clinic-{slot}"):
        assert load(ClientSettings, None, {"name": name, "data": data}, {}).name == name
    assert "name" in refused(ClientSettings, name="clinic/{slot}")
