"""How a client is added: what the page makes of answers. That it runs is shown by test_join_page."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from fedn.cli.client import start
from fedn.config import ClientSettings, load
from fedn.domain.errors import InvalidInput
from fedn.domain.messages import ClientInfo
from fedn.reducer.network import CombinerView, NetworkView
from fedn.reducer.pages.recipe import APP, EXAMPLES, IMAGES, Answers, free_number, recipe

CONTINUED = "\\\n"
ROOT = Path(__file__).parents[4]
PLAIN = Answers("http://127.0.0.1:8090", "clinic", data="/data/my file.npz")


def settings(made, tmp_path):
    file = tmp_path / "client.yaml"
    file.write_text(made.settings, encoding="utf-8")
    return load(ClientSettings, file, environ={})


def parsed(command):
    """What `fedn client start` takes the words of a command for, those behind `client start`."""
    words = shlex.split(command)
    with start.make_context("start", words[words.index("start") + 1 :]) as context:
        given = {name: value for name, value in context.params.items() if value}
    if options := given.get("app_options"):
        given["app_options"] = dict(option.split("=", 1) for option in options)
    return given


@pytest.mark.parametrize(("answers", "identity"), [
    (PLAIN, False),
    (Answers("https://fl.example.org:8090", "clinic", data="a;rm -rf $HOME"), True),
    (Answers("http://fl.example.org:8090", "clinic", data="a.npz"), False),
    (Answers("http://127.0.0.1:8090", "c", APP, "it's.npz", "train.py:make"), False),
])  # fmt: skip
def test_file_and_flags_mean_the_same(answers, identity, tmp_path):
    made = recipe(answers, identity)
    by_file = settings(made, tmp_path).as_dict()
    given = parsed(made.start_by_flags)
    assert {name: by_file[name] for name in given} == given
    assert by_file["name"] == answers.name
    data = by_file["app_options"]["data"] if answers.runs == APP else by_file["data"]
    assert data == answers.data
    assert bool(by_file["join_file"]) is identity


def test_in_a_container_paths_are_those_within_it():
    answers = Answers(
        "https://fl.example.org:8090", "c", APP, "/d/my file.npz", "code/train.py:make", "torch"
    )
    build, _, run = recipe(answers, True).docker
    assert "--target client-torch" in build
    assert "network host" not in run
    words = shlex.split(run.replace(CONTINUED, " "))
    assert [after for word, after in pairwise(words) if word == "-v"] == [
        "$PWD/fedn-data:/state",
        "/d/my file.npz:/data/my file.npz:ro",
        "$PWD/code/train.py:/app/train.py:ro",
        "$PWD/client.token:/join/client.token:ro",
    ]
    inner = parsed(run.replace(CONTINUED, " "))
    assert inner["app"] == "/app/train.py:make"
    assert inner["app_options"] == {"data": "/data/my file.npz"}
    assert inner["join_file"] == "/join/client.token"
    assert str(inner["state_dir"]) == "/state"


def test_what_docker_can_not_do_is_left_out():
    assert recipe(Answers(PLAIN.reducer, "c", APP, "", "module:make"), False).docker == ()
    assert recipe(Answers(PLAIN.reducer, "c", data="a:b"), False).docker == ()


def test_examples_and_images_are_there():
    for name, (extra, kind) in EXAMPLES.items():
        folder = ROOT / "examples" / name
        assert (folder / "make_data.py").is_file()
        assert extra in IMAGES
        assert f"client-1.{kind}" in (folder / "README.md").read_text("utf-8")
    targets = re.findall(r"AS client-(\w+)$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    assert sorted(targets) == sorted(IMAGES)


@pytest.mark.parametrize(("field", "answers"), [
    ("name", Answers(PLAIN.reducer, "", data="a")),
    ("name", Answers(PLAIN.reducer, "no good", data="a")),
    ("name", Answers(PLAIN.reducer, "c-{slot}", data="a")),
    ("data", Answers(PLAIN.reducer, "c")),
    ("data", Answers(PLAIN.reducer, "c", data="~/a.npz")),
    ("data", Answers(PLAIN.reducer, "c", data="--app=evil")),
    ("data", Answers(PLAIN.reducer, "c", data="a\nb")),
    ("app", Answers(PLAIN.reducer, "c", APP)),
    ("app", Answers(PLAIN.reducer, "c", APP, app="no-factory")),
    ("reducer", Answers("ftp://x", "c", data="a")),
    ("reducer", Answers("http://[", "c", data="a")),
    ("runs", Answers(PLAIN.reducer, "c", "../x", "a")),
    ("image", Answers(PLAIN.reducer, "c", data="a", image="evil")),
])  # fmt: skip
def test_what_is_wrong_is_named(field, answers):
    with pytest.raises(InvalidInput) as caught:
        recipe(answers, False)
    assert caught.value.details["field"] == field
    assert caught.value.details["remedy"]


@pytest.mark.parametrize(("there", "name", "data"), [
    ((), "client-1", "data/client-1.npz"),
    (("client-1", "client-2", "clinic-3"), "client-4", "data/client-4.npz"),
    (("client-1", "client-3"), "client-2", "data/client-2.npz"),
    (("lund", "site07"), "client-1", "data/client-1.npz"),
    (("client-10",), "client-1", "data/client-1.npz"),
])  # fmt: skip
def test_an_example_gets_data_that_nobody_has_yet(service, browse, monkeypatch, there, name, data):
    clients = tuple(ClientInfo(f"id-{n}", one) for n, one in enumerate(there))
    view = NetworkView(1, (CombinerView("c1", "127.0.0.1:1", "i", True, clients),))
    monkeypatch.setattr(service, "network", lambda: view)
    assert f'id="name" name="name" value="{name}"' in browse("/network/join")
    made = browse(f"/network/join?name={name}&runs=digits-sklearn")
    assert f'id="data" name="data" value="{data}"' in made
    assert ("would count twice" in made) is (name == "client-4")
    assert ("python make_data.py 4" in made) is (name == "client-4")
    free = free_number(there)
    other = browse("/network/join?name=uppsala&runs=digits-sklearn")
    assert f'value="data/client-{free}.npz"' in other
    taken = browse("/network/join?name=falun-3&runs=tabular-numpy")
    assert f'value="data/client-{free if "clinic-3" in there or "client-3" in there else 3}.csv"' in taken


def test_who_has_come_keeps_the_number_that_it_was_given(service, browse, monkeypatch):
    view = NetworkView(1, (CombinerView("c1", "127.0.0.1:1", "i", True, (ClientInfo("a", "client-2"),)),))
    monkeypatch.setattr(service, "network", lambda: view)
    page = browse("/network/join?name=client-2&runs=digits-sklearn")
    assert 'value="data/client-2.npz"' in page
    assert "is attached to" in page
    assert "would count twice" not in page


def test_the_page_shows_commands_and_errors_and_never_a_token(net, service):
    http, asked = net.app().test_client(), {"base_url": "https://fl.example.org"}

    def page(query, role):
        headers = {"Authorization": f"Bearer {net.token(role)}"}
        return http.get(f"/network/join{query}", headers=headers, **asked)

    empty = page("", "operator").get_data(as_text=True)
    assert 'value="https://fl.example.org"' in empty
    assert "client start" not in empty
    assert "name: is missing" not in empty

    query = "?name=clinic-3&data=a.npz"
    text = page(query, "operator").get_data(as_text=True)
    assert "fedn client start -c client.yaml" in text
    assert net.dir.authority.fingerprint in text
    assert "data-shown-in" not in text
    assert "fedn token create --role client --name clinic-3" in text
    assert 'data-shown-in="token"' in page(query, "admin").get_data(as_text=True)

    wrong = page("?name=%3Cscript%3Ex&data=a", "operator").get_data(as_text=True)
    assert "is not a valid name" in wrong
    assert "<script>x" not in wrong

    file = page(f"/client.yaml{query}", "operator")
    assert yaml.safe_load(file.get_data(as_text=True)) == {
        "reducer": "https://fl.example.org", "name": "clinic-3", "data": "a.npz", "join_file": "client.token",
    }  # fmt: skip
    assert file.headers["Content-Disposition"] == 'attachment; filename="client.yaml"'
    assert page("/client.yaml?name=x y&data=a", "operator").status_code == 400
