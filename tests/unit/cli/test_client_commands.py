"""`fedn client pause|resume|status|ledger` on folders, without a network or a running client."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedn.cli.homes import leaving_nothing
from fedn.client.journal import FileJournal
from fedn.client.ledger import Ledger
from fedn.client.owner import read_pause
from fedn.client.standing import Standing
from fedn.client.state_dir import Home, claim
from fedn.client.unseen import Unseen
from fedn.config import ClientSettings
from fedn.domain.errors import InvalidInput
from fedn.domain.ids import ClientId, Digest, SessionId, digest_of
from fedn.domain.messages import Task, TaskKind
from fedn.domain.update import UpdateHeader
from fedn.ports import Observed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two clients that were there once."""
    for name in ("ann", "bob"):
        claim(tmp_path / "clients", name).release()
    return tmp_path / "clients"


def test_a_pause_begins_once_is_made_urgent_and_ends(alone, folder):
    where = ("--state-dir", folder, "--name", "ann")
    told = alone.json("client", "pause", *where)
    assert (told["name"], told["paused"], told["now"], told["running"]) == ("ann", True, False, False)
    assert alone.json("client", "pause", "--now", *where)["since"] == told["since"]
    assert read_pause(Home(folder / "ann").paused).now
    assert read_pause(Home(folder / "bob").paused) is None
    assert "ann is paused. It does not run just now." in alone.good("client", "pause", *where)
    assert alone.json("client", "status", *where)["clients"][0]["paused_since"] == told["since"]
    assert "ann goes on. It does not run just now." in alone.good("client", "resume", *where)
    assert "ann was not paused." in alone.good("client", "resume", *where)
    assert alone.json("client", "resume", *where)["was_paused"] is False
    assert alone.json("client", "status", *where)["clients"][0]["paused"] is False


def test_a_refused_start_leaves_no_folder_but_what_was_there_or_is_of_use(tmp_path):
    parent = tmp_path / "fedn-data" / "clients"
    running = []

    def refused(*names: str) -> None:
        with leaving_nothing(parent):
            for name in names:
                claim(parent, name).release()
            if "told" in names:
                Ledger(Home(parent / "told").ledger).note("hello_said", "combiner-1", "host:1", size=3)
                running.append(claim(parent, "another"))
            raise InvalidInput("app", "can't be imported")

    with pytest.raises(InvalidInput):
        refused("new")
    assert list(tmp_path.iterdir()) == []
    claim(parent, "old").release()
    with pytest.raises(InvalidInput):
        refused("new", "old", "told")
    assert sorted(path.name for path in parent.iterdir()) == ["another", "old", "told"]
    running[0].release()


def test_which_client_is_meant_is_asked_or_read_from_its_settings(alone, folder, tmp_path, monkeypatch):
    assert "2 clients (ann, bob)" in alone.refused(2, "client", "pause", "--state-dir", folder)
    assert "no client eve" in alone.refused(4, "client", "resume", "--state-dir", folder, "--name", "eve")
    assert "no client in" in alone.refused(4, "client", "status", "--state-dir", tmp_path / "nowhere")
    assert "not a valid name" in alone.refused(2, "client", "ledger", "--state-dir", folder, "--name", "../x")
    file = tmp_path / "settings-client.yaml"
    file.write_text(f"state_dir: {folder}\nname: bob\n")
    assert alone.json("client", "pause", "-c", file)["name"] == "bob"
    file.write_text(f"state_dir: {folder}\nname: 'clinic-{{slot}}'\n")
    assert len(alone.json("client", "status", "-c", file)["clients"]) == 2
    monkeypatch.setenv("FEDN_CLIENT_STATE_DIR", str(folder))
    assert [c["name"] for c in alone.json("client", "status")["clients"]] == ["ann", "bob"]


def test_status_tells_of_a_running_client_and_of_one_that_has_gone(alone, folder):
    held = claim(folder, "ann")
    settings = ClientSettings(hours="mon-fri", hyperparameters={"lr": 0.5}, app="a:b", app_options={"x": "y"})
    standing = Standing(held.standing, settings.as_dict())
    session, digest = SessionId("s-1"), digest_of(b"update")
    standing.observe(Observed("attached", {"combiner": "combiner-1", "address": "host:1"}))
    standing.observe(Observed("working", {"kind": "train", "session": session, "round": 2}))
    standing.observe(Observed("settled", {"session": session, "round": 1, "counted": True, "reason": ""}))
    header = UpdateHeader(session, 2, ClientId(held.client), digest, 3, 6, digest, digest)
    FileJournal(held.journal, 2**20).add(header, b"update")
    told = alone.json("client", "status", "--state-dir", folder, "--name", "ann")["clients"][0]
    assert (told["running"], told["state"], told["combiner"]) == (True, "attached", "combiner-1")
    assert (told["working"]["kind"], told["working"]["round"]) == ("train", 2)
    assert told["held"] == [{"session": "s-1", "round": 2, "size": 6, "digest": digest}]
    assert [(r["round"], r["outcome"]) for r in told["rounds"]] == [(1, "counted")]
    assert told["settings"]["hyperparameters"] == {"lr": 0.5}
    assert "app_options" not in told["settings"]
    shown = alone.good("client", "status", "--state-dir", folder)
    for words in (
        "attached to combiner-1 (host:1)",
        "train, session s-1, round 2",
        "mon-fri",
        "lr=0.5",
        "not running",
    ):
        assert words in shown
    assert held.standing.stat().st_mode & 0o777 == 0o600
    held.release()
    told = alone.json("client", "status", "--state-dir", folder, "--name", "ann")["clients"][0]
    assert (told["running"], told["state"], told["combiner"], told["working"]) == (
        False,
        "not running",
        "",
        None,
    )
    assert len(told["rounds"]) == 1


@pytest.mark.parametrize("content", ["", "{", "[]", '{"rounds": 5}', "[" * 100_000])
def test_a_spoilt_standing_is_none(alone, folder, content):
    Home(folder / "ann").standing.write_text(content)
    told = alone.json("client", "status", "--state-dir", folder, "--name", "ann")["clients"][0]
    assert (told["state"], told["rounds"]) == ("not running", [])


def test_the_ledger_says_what_begins_whose_bytes_nobody_counts(alone, folder):
    home = Home(folder / "ann")
    task = Task(SessionId("s-1"), 2, TaskKind.TRAIN, Digest("d" * 64), 1, "", 0)
    unseen = Unseen(Ledger(home.ledger))
    unseen.install_begun(Digest("e" * 64), task, 3)
    unseen.package_begun(Digest("e" * 64), task)
    table = alone.good("client", "ledger", "--name", "ann", "--state-dir", folder)
    for words in ("install begun", "package index (as pip is configured)", "requirements=3", "package begun",
                  "network=open", "bytes=unknown", "e" * 12):  # fmt: skip
        assert words in table


def test_the_ledger_is_shown_by_time_and_session_with_totals_and_verified(alone, folder):
    where = ("--state-dir", folder, "--name", "ann")
    assert "Nothing has left." in alone.good("client", "ledger", *where)
    times = iter([1000.0, 1e9, 4e9])
    ledger = Ledger(Home(folder / "ann").ledger, clock=lambda: next(times))
    ledger.note("hello_said", "combiner-1", "host:1", size=33, details={"name": "an\x1bn"})
    ledger.note("upload_begun", "combiner-1", "host:1", session="s-1", round=1, size=500, digest="d" * 64)
    metrics = {"metrics": {"accuracy": 0.9}, "model": "e" * 64}
    ledger.note(
        "validation_reported", "combiner-1", "host:1", session="s-2", round=1, size=50, details=metrics
    )
    table = alone.good("client", "ledger", *where)
    for words in (
        "upload begun",
        "combiner-1 (host:1)",
        "dddddddddddd ",
        "accuracy 0.9000",
        "(of none)",
        "500",
    ):
        assert words in table
    assert "\x1b" not in table
    short = alone.good("client", "ledger", "--limit", "1", *where)
    assert "upload begun" not in short
    assert "s-1" in short  # the totals are of all
    assert '"what": "upload_begun"' in alone.good("client", "ledger", "--session", "s-1", "--json", *where)
    assert alone.good("client", "ledger", "--session", "1", "--json", *where).count("\n") == 1
    message = alone.refused(4, "client", "ledger", "--session", "s1", *where)
    assert "has nothing of a session 's1'; did you mean 's-1'?" in message
    assert "matches 2 (s-1, s-2)" in alone.refused(2, "client", "ledger", "--session", "s-", *where)
    since = [alone.good("client", "ledger", "--since", when, "--json", *where).count("\n")
             for when in ("1969-01-01", "2000-01-01T00:00", "2h")]  # fmt: skip
    assert since == [3, 2, 1]
    assert "'soon' is no time" in alone.refused(2, "client", "ledger", "--since", "soon", *where)

    head = alone.json("client", "ledger", "verify", *where)["head"]
    assert "lines 1 to 3" in alone.good("client", "ledger", "verify", "--pinned", head, *where)
    file = Home(folder / "ann").ledger / f"{1:012}.jsonl"
    file.write_bytes(file.read_bytes().replace(b"500", b"5"))
    result = alone("client", "ledger", "verify", *where)
    assert (result.exit_code, "Line 3 follows" in result.stdout) == (1, True)
    assert "--pinned" in alone.refused(2, "client", "ledger", "verify", "--pinned", "x", *where)
