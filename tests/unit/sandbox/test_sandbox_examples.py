"""Examples as the sandbox reads them: found or refused by name, prepared by their scripts, and told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fedn.domain.errors import FednError, InvalidConfig, InvalidInput, InvalidPlan
from fedn.packages.archive import inspect
from fedn.sandbox import examples

FILES = {
    "fedn.yaml": 'name: small\nentry_points: {train: "true"}\n',
    "make_data.py": (
        "import sys, pathlib\n"
        "for n in range(int(sys.argv[1])):\n"
        "    pathlib.Path(sys.argv[2], f'client-{n + 1}.csv').write_text('x')\n"
        "print('a warning'); print('some data')\n"
    ),
    "seed.py": "import sys, pathlib\npathlib.Path(sys.argv[1]).write_bytes(b'seed')\n",
    ".fednignore": "*.py\nexample.yaml\n",
}


def made(folder: Path, **changed: str) -> Path:
    """A small example; ``changed`` are other texts by file, with __ for the dot; '' for no such file."""
    folder.mkdir()
    texts = FILES | {name.replace("__", "."): text for name, text in changed.items()}
    for name, text in texts.items():
        if text:
            (folder / name).write_text(text)
    return folder


def test_it_is_prepared_by_its_scripts(tmp_path: Path) -> None:
    example = examples.find(str(made(tmp_path / "small", example__yaml="clients: 3\nplan: {seed: 7}\n")))
    work = example.prepare(2, tmp_path / "home")
    assert (example.clients, example.rounds, work.name, work.about) == (3, 10, "small", "some data")
    assert (work.seed, dict(work.plan)) == (b"seed", {"seed": 7})
    assert [file.name for file in work.data] == ["client-1.csv", "client-2.csv"]
    assert [file.path for file in inspect(work.package).files] == ["fedn.yaml"]


@pytest.mark.parametrize(
    ("changed", "kind", "words"),
    [
        ({"fedn__yaml": ""}, InvalidInput, "has no fedn.yaml"),
        ({"seed__py": ""}, InvalidInput, "has no seed.py"),
        ({"example__yaml": "client: 3"}, InvalidConfig, "client: is not known .* did you mean 'clients'"),
        ({"example__yaml": "clients: many"}, InvalidConfig, "clients: 'many' is no number"),
        ({"example__yaml": "rounds: true"}, InvalidConfig, "rounds: True is no number"),
        ({"example__yaml": "extras: [keros]"}, InvalidConfig, "extras: .'keros'. are not known"),
        ({"example__yaml": "plan: 3"}, InvalidConfig, "plan: is no mapping"),
        ({"example__yaml": "plan: {round: 3}"}, InvalidPlan, "round: is not a plan field"),
    ],
)
def test_a_wrong_one_is_refused_by_what_is_wrong(tmp_path, changed, kind, words) -> None:
    with pytest.raises(kind, match=words):
        examples.find(str(made(tmp_path / "small", **changed)))


def test_an_unknown_name_is_told_the_nearest() -> None:
    with pytest.raises(InvalidInput, match="'mnist-kers' is no example — did you mean 'mnist-keras'"):
        examples.find("mnist-kers")


def test_without_the_source_tree_it_says_where_examples_are(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("fedn.__file__", str(tmp_path / "site-packages" / "fedn" / "__init__.py"))
    with pytest.raises(InvalidInput, match="no examples are installed — they are in the source tree"):
        examples.find("mnist-keras")


def test_what_is_not_installed_is_named_with_the_way_to_get_it(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(examples.MODULES, "torch", "no_such_module_at_all")
    example = examples.find(str(made(tmp_path / "small", example__yaml="extras: [torch]")))
    with pytest.raises(
        InvalidInput, match=r"small needs torch, .* EXAMPLE=small` .* pip install -e '.\[torch\]'"
    ):
        example.prepare(1, tmp_path / "home")


def test_a_script_that_fails_shows_its_last_lines(tmp_path: Path) -> None:
    example = examples.find(str(made(tmp_path / "small", seed__py="raise SystemExit('no luck today')")))
    with pytest.raises(FednError, match=r"seed\.py ended with exit code 1:\nno luck today"):
        example.prepare(1, tmp_path / "home")


def test_a_client_without_data_is_named(tmp_path: Path) -> None:
    example = examples.find(str(made(tmp_path / "small", make_data__py="print('nothing')")))
    with pytest.raises(InvalidInput, match="made 0 files for client 1"):
        example.prepare(1, tmp_path / "home")


def test_a_report_gets_the_outcome(tmp_path: Path) -> None:
    script = "import json, sys\nprint(json.load(sys.stdin)['state'])\n"
    example = examples.find(str(made(tmp_path / "small", report__py=script)))
    with (tmp_path / "out").open("w") as output:
        example.tell({"state": "finished"}, output)
    assert (tmp_path / "out").read_text() == "finished\n"


def test_a_program_of_its_own_finds_the_network_in_its_environment(tmp_path: Path) -> None:
    script = "import os\nprint(os.environ['FEDN_URL'])\nraise SystemExit('and then it broke')\n"
    example = examples.find(str(made(tmp_path / "small", run__py=script, fedn__yaml="")))
    assert example.runs_itself
    environ = {"FEDN_URL": "http://here"}
    with (
        (tmp_path / "out").open("w") as output,
        example.running(environ, output, tmp_path / "log") as running,
        pytest.raises(FednError, match=r"run\.py ended with exit code 1:\nand then it broke"),
    ):
        running.wait()
    assert (tmp_path / "out").read_text() == "http://here\n"


def test_a_program_of_its_own_does_not_outlive_the_sandbox(tmp_path: Path) -> None:
    script = "import os, signal\nprint(os.getpid(), flush=True)\nsignal.pause()\n"
    example = examples.find(str(made(tmp_path / "small", run__py=script)))
    read, write = os.pipe()
    with os.fdopen(read) as said:
        with os.fdopen(write, "w") as output, example.running({}, output, tmp_path / "log"):
            pid = int(said.readline())
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
