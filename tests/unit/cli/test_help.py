"""Help that teaches, instantly; bad input that is named; exit codes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from fedn.cli.root import COMMANDS, root
from fedn.config import TIERS
from fedn.domain.plan import plan_fields

EXAMPLES = Path(__file__).parents[3] / "examples" / "settings"
WRITTEN_ELSEWHERE = {"sandbox"}
HEAVY = {"numpy", "grpc", "flask", "httpx", "pydantic", "rich", "sklearn", "yaml", "asyncio"}


def every_command():
    def walk(command: click.Command, path: tuple[str, ...]):
        yield path, command
        if isinstance(command, click.Group):
            for name in command.commands:
                yield from walk(command.commands[name], (*path, name))

    for name in COMMANDS:
        if name not in WRITTEN_ELSEWHERE:
            context = click.Context(root)
            yield from walk(root.get_command(context, name), (name,))


PATHS = [path for path, _ in every_command()]


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_every_command_explains_itself_with_an_example_and_takes_json(path):
    result = CliRunner().invoke(root, [*path, "--help"])
    assert result.exit_code == 0
    assert "Example" in result.output
    assert f"fedn {path[0]}" in result.output
    command = dict(every_command())[path]
    if not isinstance(command, click.Group):
        assert "--json" in result.output
        assert all(getattr(param, "help", "") for param in command.params if isinstance(param, click.Option))


def test_the_first_help_tells_every_command_and_the_exit_codes():
    output = CliRunner().invoke(root, ["--help"]).output
    assert all(name in output for name in COMMANDS)
    for code in (
        "0  done",
        "1  failed",
        "2  bad input",
        "3  unavailable",
        "4  not found",
        "5  not allowed",
        "130  interrupted",
    ):
        assert code in output


def test_the_first_help_loads_nothing_heavy():
    script = (
        "import sys, json\n"
        "from fedn.cli.root import root\n"
        "root.main(['--help'], standalone_mode=False)\n"
        f"print('heavy', sorted({HEAVY!r} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "heavy []"


@pytest.mark.parametrize("tier", TIERS)
def test_every_setting_is_a_flag(tier):
    output = CliRunner().invoke(root, [tier, "start", "--help"]).output
    for name in TIERS[tier].model_fields:
        assert f"--{name.replace('_', '-')}" in output


def test_every_plan_field_is_a_flag():
    output = CliRunner().invoke(root, ["session", "start", "--help"]).output
    for name, *_ in plan_fields():
        assert f"--{name.replace('_', '-')}" in output


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["sessoin", "list"], "Did you mean 'session'?"),
        (["session", "start", "--rouns", "3"], "--rounds"),
        (["session", "start", "--rounds", "many"], "'many' is not a valid integer"),
        (["session", "start", "--rounds", "0"], "rounds: 0 is out of bounds"),
        (["session", "start", "--averaging", "best"], "'best' is not one of"),
        (["session", "start", "--config", "lr"], "'lr' is not name=value"),
        (["session", "start", "--min-clients", "5", "--max-clients", "2"], "max_clients"),
        (["reducer", "start", "--host", "0.0.0.0"], "--insecure-no-tls-no-auth"),
        (["reducer", "start", "--port", "x"], "'x' is not a valid integer"),
        (["combiner", "start", "--name", "a b"], "name: 'a b' is not a valid name"),
        (["client", "start"], "app: is missing"),
        (["client", "start", "--reducer", "http://r.example.org:8090"], "--insecure-no-tls-no-auth"),
        (["client", "start", "-c", "nowhere.yaml", "--app", "a:b"], "nowhere.yaml: can't be read"),
        (["status", "--reducer", "nonsense"], "--reducer: 'nonsense' is not an address"),
        (["trail", "verify", "s", "--state", "memory://"], "--state: goes with --models"),
        (["model", "seed", "nowhere.safetensors"], "nowhere.safetensors: can't be read"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_named_and_exits_with_2(alone, args, words):
    assert words in alone.refused(2, *args)


@pytest.mark.parametrize("args", [["status"], ["session", "list"], ["model", "list"], ["trail", "show", "x"]])
def test_without_a_reducer_the_exit_code_is_3_and_the_sentence_says_what_to_do(alone, args):
    message = alone.refused(3, *args)
    assert "No reducer answers at http://127.0.0.1:9" in message
    assert "fedn reducer start" in message


def test_interruption_exits_with_130(monkeypatch, alone):
    from fedn.cli import rest_client

    def interrupted(*_: object, **__: object):
        raise KeyboardInterrupt

    monkeypatch.setattr(rest_client.Reducer, "get", interrupted)
    assert alone.refused(130, "session", "list") == "interrupted"


def test_json_may_stand_in_front():
    result = CliRunner().invoke(root, ["--json", "plugins"])
    assert "fedn.aggregators" in json.loads(result.stdout)


def test_plugins_lists_every_group(alone):
    assert set(alone.json("plugins")) >= {"fedn.aggregators", "fedn.selectors", "fedn.helpers"}
    alone.good("plugins")


# --- config ----------------------------------------------------------------------------------------


def test_config_check_guesses_the_tier_by_the_name_of_the_file(alone, tmp_path):
    file = tmp_path / "settings-combiner.yaml"
    file.write_text("name: c9\nport: 12089\n")
    answer = alone.json("config", "check", file)
    assert (answer["kind"], answer["ok"], answer["settings"]["port"]) == ("combiner", True, 12089)
    assert "is good: settings of a combiner" in alone.good("config", "check", file)


def test_config_check_names_a_wrong_key_and_the_nearest(alone, tmp_path):
    file = tmp_path / "reducer.yaml"
    file.write_text("prot: 1\n")
    message = alone.refused(2, "config", "check", file)
    assert "prot:" in message
    assert "did you mean 'port'?" in message
    other = tmp_path / "mine.yaml"
    other.write_text("prot: 1\n")
    assert "--kind" in alone.refused(2, "config", "check", other)
    assert "prot" in alone.refused(2, "config", "check", other, "--kind", "client")


def test_config_show_tells_where_a_value_comes_from(alone, tmp_path, monkeypatch):
    file = tmp_path / "x.yaml"
    file.write_text("host: localhost\n")
    monkeypatch.setenv("FEDN_REDUCER_PORT", "8099")
    rows = {row["name"]: row for row in alone.json("config", "show", "reducer", "-c", file)["settings"]}
    assert (rows["port"]["value"], rows["port"]["environment"]) == (8099, "FEDN_REDUCER_PORT")
    assert "environment" in rows["port"]["from"]
    assert str(file) in rows["host"]["from"]
    assert rows["http_threads"]["from"] == "default"
    assert "8099" in alone.good("config", "show", "reducer")


@pytest.mark.parametrize("tier", TIERS)
def test_the_examples_are_good_also_beyond_this_machine(alone, tmp_path, tier):
    file = EXAMPLES / f"settings-{tier}.yaml"
    alone.good("config", "check", file)
    plain, _, beyond = file.read_text().partition("# Beyond this machine")
    lines = [line.removeprefix("# ") for line in beyond.splitlines() if re.match(r"# [a-z_]+: \S+$", line)]
    named = {line.partition(":")[0] for line in lines}
    kept = [line for line in plain.splitlines() if line.partition(":")[0] not in named]
    other = tmp_path / file.name
    other.write_text("\n".join([*kept, *lines]))
    settings = alone.json("config", "check", other)["settings"]
    assert named <= settings.keys()
    assert "reducer.example.org" in settings["reducer"] if tier != "reducer" else settings["network_dir"]
