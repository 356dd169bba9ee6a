"""The form that starts sessions: what it offers, what it begins with, and what it says of each field."""

from __future__ import annotations

import re
from html import unescape

import pytest
from package_files import FILES, archive

from fedn.domain.messages import ClientInfo, Host
from fedn.reducer.network import CombinerView, NetworkView


def words(text: str) -> str:
    """A page without its elements."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", text)).split())


def field(text: str, name: str) -> str:
    """The element of a field, with its choices."""
    found = re.search(
        rf'<(select|textarea)[^>]* id="{name}".*?</\1>|<input[^>]* id="{name}"[^>]*>', text, re.DOTALL
    )
    assert found, name
    return found[0]


def chosen(text: str, name: str) -> list[str]:
    return re.findall(r'<option value="([^"]*)" selected>', field(text, name))


@pytest.fixture
def clients_run(service, monkeypatch):
    """Has a client attached for each thing that one may run."""

    def attach(*runs: str) -> None:
        clients = tuple(ClientInfo(f"id-{n}", f"client-{n}", Host(runs=one)) for n, one in enumerate(runs, 1))
        view = NetworkView(1, (CombinerView("c1", "127.0.0.1:1", "i", True, clients),))
        monkeypatch.setattr(service, "network", lambda: view)

    return attach


@pytest.fixture
def package(net):
    """Uploads a package, and returns its digest."""
    app, headers = net.app(), {"Authorization": f"Bearer {net.token('operator')}"}

    def upload(*extra: str) -> str:
        content = archive({**dict.fromkeys(extra, "x"), **FILES})
        answer = app.test_client().post("/api/v1/packages", data=content, headers=headers)
        return str(answer.get_json()["digest"])

    return upload


def test_where_clients_run_packages_it_begins_with_the_newest(service, small, browse, clients_run, package):
    service.seed_model([small.model_file()], "zeros", 0)
    clients_run("packages", "packages")
    assert "there is none yet: upload one first" in words(browse("/start"))
    package("old.txt")
    newest = package("new.txt")
    assert chosen(browse("/start"), "package") == [newest]
    assert "there is none yet" not in browse("/start")
    clients_run("packages", "app")
    assert chosen(browse("/start"), "package") == [""]
    clients_run()
    assert chosen(browse("/start"), "package") == [""]


def test_a_plan_like_another_keeps_its_package(service, small, browse, clients_run, package):
    session = small.seeded(service).session
    clients_run("packages")
    package()
    assert chosen(browse(f"/start?like={session}"), "package") == [""]


def test_seeds_and_the_newest_models_of_sessions_are_offered(service, small, browse, evil):
    info = small.seeded(service)
    assert "Newest models of sessions" not in browse("/start")
    service.commit(info.session, 0.5)
    head = service.state.session(info.session).head.model
    offered = field(browse(f"/start?like={info.session}"), "model")
    assert f'<option value="{info.head.model}">zeros (' in offered
    assert f'<option value="{head}" selected>digits, round 1 ({head[:12]})</option>' in offered
    again = service.start_session(evil, head, info.plan)  # from it, and without a round of its own
    assert field(browse("/start"), "model").count(head) == 1
    service.commit(again.session, 0.5)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;, round 1" in field(browse("/start"), "model")
    assert "as chosen" in field(browse(f"/start?model={'ab' * 32}"), "model")


def test_whole_numbers_have_arrows_and_bounds(service, small, browse):
    service.seed_model([small.model_file()], "zeros", 0)
    text = browse("/start")
    rounds = field(text, "rounds")
    for part in ('type="number"', 'step="1"', 'min="1"', 'max="1000000"', 'value="10"', "required"):
        assert part in rounds
    deadline = field(text, "round_deadline")
    for part in ('type="text"', 'inputmode="decimal"', 'value="600"', "required"):
        assert part in deadline


def test_no_backticks_are_left_in_what_it_says(service, small, browse):
    service.seed_model([small.model_file()], "zeros", 0)
    text = browse("/start")
    assert "`" not in text
    assert "<code>fedn package list</code>" in text
