"""Settings: where a value comes from, and what a person is told when one is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from fedn.config import (
    TIERS,
    ClientSettings,
    CombinerSettings,
    ReducerSettings,
    Settings,
    check_listen,
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


@pytest.mark.parametrize("kind", [ReducerSettings, CombinerSettings])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.5", "example.org", "127.0.0.1.example.org"])
def test_a_host_beyond_loopback_is_refused_unless_told_loudly(kind, host):
    message = refused(kind, host=host)
    assert message.startswith("host: ")
    assert "other machines" in message
    assert "--insecure-listen-beyond-loopback" in message
    assert load(kind, None, {"host": host, "insecure_listen_beyond_loopback": True}, {}).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_no_flag(host):
    assert is_loopback(host)
    check_listen(host, insecure=False)


def test_names_and_addresses_are_checked():
    assert "is not an address" in refused(CombinerSettings, reducer="127.0.0.1:8090")
    assert "name: '../x' is not a valid name" in refused(CombinerSettings, name="../x")
    assert "app: 'digits' names no factory" in refused(ClientSettings, app="digits")
    assert "event_streams" in refused(ReducerSettings, event_streams=48)


def test_settings_are_frozen():
    settings = load(ReducerSettings, None, {}, {})
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1
