from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from fedn.domain.errors import InvalidConfig, LoginRefused, StaleTerm, StoreUnavailable
from fedn.reducer import leading
from fedn.reducer.leading import Leader, opened, unless_stopped
from fedn.reducer.standby_sign import StandbySign, read_sign
from fedn.stores.holders import is_dead, own_name, shown
from fedn.stores.memory import MemoryState

LONG = 600.0
NAME = "from fedn.stores.holders import own_name; print(own_name(), flush=True); input()"


@pytest.fixture
def state() -> MemoryState:
    return MemoryState()


@pytest.fixture
async def leader(state: MemoryState) -> AsyncIterator[Leader]:
    made = Leader(state.leadership, LONG)
    yield made
    await made.give_up()


# --- who is dead


def test_a_process_of_this_machine_is_dead_once_it_was_killed():
    child = subprocess.Popen(
        [sys.executable, "-c", NAME], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None
        name = child.stdout.readline().strip()
        assert f"(process {child.pid})" in shown(name)
        assert not is_dead(name)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert is_dead(name)  # nobody has asked for its exit code yet
        child.wait()
        assert is_dead(name)


def test_only_what_can_be_seen_is_called_dead():
    host, pid, machine, birth = own_name().split("/")
    assert not is_dead(own_name())
    assert is_dead(f"{host}/{pid}/{machine}/1")  # the number was given again
    for name in (
        "",
        "a",
        f"{host}/{pid}/elsewhere/1",
        f"{host}/-1/{machine}/{birth}",
        f"{host}/{2**70}/{machine}/1",
    ):
        assert not is_dead(name)


# --- leading


async def test_nobody_waits_for_a_lease_that_is_free(state: MemoryState, leader: Leader):
    assert await leader.take() == state.newest_term() == 1


async def test_a_standby_says_once_who_leads_and_takes_over_when_that_one_ends(
    state: MemoryState, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(leading, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(leading, "TELL_SECONDS", 0.0)
    looks = Looks()
    leader = Leader(state.leadership, LONG, looks)
    lease = state.leadership.take("hospital/12/elsewhere/1", LONG)
    waiting = asyncio.create_task(leader.take())
    with caplog.at_level(logging.WARNING):
        for host in ("hospital", "clinic"):
            lease = state.leadership.take(f"{host}/12/elsewhere/1", LONG, instead_of=lease.holder)
            looks.names.clear()
            while looks.names[-3:].count(f"reducer on {host} (process 12) leads") < 3:
                await asyncio.sleep(0.01)
    said = [record.getMessage() for record in caplog.records]
    assert said == [f"standing by: reducer on {host} (process 12) leads" for host in ("hospital", "clinic")]
    state.leadership.give_up(lease)
    assert await waiting == lease.term + 1
    await leader.give_up()


class Looks(StandbySign):
    """Every time that a standby has looked, and who led then."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def hang_out(self, words: str) -> None:
        self.names.append(words)


async def test_a_dead_ones_lease_is_not_waited_for(state: MemoryState, leader: Leader):
    host, pid, machine, _ = own_name().split("/")
    lease = state.leadership.take(f"{host}/{pid}/{machine}/1", LONG)
    assert await leader.take() == lease.term + 1


async def test_a_leader_steps_down_when_another_leads(state: MemoryState):
    leader = Leader(state.leadership, 0.05)
    await leader.take()
    assert leader.lease
    keeping = asyncio.create_task(leader.keep())
    state.leadership.take("another", LONG, instead_of=leader.lease.holder)
    with pytest.raises(StaleTerm, match=r"another reducer leads.*stands by"):
        await keeping
    await leader.give_up()
    assert state.leadership.take("a third", LONG).holder == "another"


async def test_what_a_leader_had_is_free_at_once(state: MemoryState):
    leader = Leader(state.leadership, LONG)
    await leader.take()
    await leader.give_up()
    assert state.leadership.take("another", LONG).holder == "another"


async def test_who_stands_by_says_so_in_a_file_while_it_does(state: MemoryState, tmp_path: Path):
    lease = state.leadership.take("elsewhere/1/2/3", LONG)
    file = tmp_path / "standby"
    leader = Leader(state.leadership, LONG, StandbySign(str(file)))
    taking = asyncio.create_task(leader.take())
    while not (why := read_sign(file)):
        await asyncio.sleep(0.01)
    assert why == "reducer on elsewhere (process 1) leads"
    os.utime(file, (0, 0))  # what was left behind is not believed
    assert read_sign(file) == ""
    state.leadership.give_up(lease)
    assert await taking == lease.term + 1
    assert list(tmp_path.iterdir()) == []
    await leader.give_up()


async def test_a_file_that_can_not_be_written_keeps_nobody_from_leading(
    state: MemoryState, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    sign = StandbySign(str(tmp_path / "nowhere" / "standby"))
    leader = Leader(state.leadership, LONG, sign)
    sign.hang_out("another leads")
    sign.hang_out("another leads")
    assert await leader.take()
    assert [message.partition(" can't")[2] for message in caplog.messages] == [
        " be written: No such file or directory"
    ]
    await leader.give_up()


# --- waiting for stores


class Rising:
    """A server that answers the third time."""

    def __init__(self, error: Callable[[], Exception]) -> None:
        self.asked = 0
        self._error = error

    def open(self, url: str) -> str:
        self.asked += 1
        if self.asked < 3:
            raise self._error()
        return f"opened {url}"


async def test_a_server_is_waited_for(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fedn.reducer.leading.AGAIN_SECONDS", 0.01)
    with caplog.at_level(logging.WARNING):
        server = Rising(lambda: StoreUnavailable("nobody is there"))
        assert await opened("state store", server.open, "mongodb://host") == "opened mongodb://host"
    assert caplog.messages == ["waiting for the state store: nobody is there"]


async def test_a_login_that_is_not_there_yet_is_waited_for_and_a_wrong_one_not_for_ever(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("fedn.reducer.leading.AGAIN_SECONDS", 0.01)
    server = Rising(lambda: LoginRefused("state_store", "refused the user 'fedn'"))
    assert await opened("state store", server.open, "mongodb://host") == "opened mongodb://host"
    [told] = caplog.messages
    assert told == "waiting for the state store: state_store: refused the user 'fedn' (given up after 20 s)"
    server = Rising(lambda: LoginRefused("state_store", "refused the user 'fedn'"))
    with pytest.raises(LoginRefused):
        await opened("state store", server.open, "mongodb://host", login_seconds=0)
    assert server.asked == 1


async def test_what_waiting_does_not_mend_is_told_at_once():
    for url, error in (
        ("sqlite:///x", StoreUnavailable("no such folder")),
        ("mongodb://host", InvalidConfig("state_store", "wrong password")),
    ):
        server = Rising(lambda error=error: error)
        with pytest.raises(type(error)):
            await opened("state store", server.open, url)
        assert server.asked == 1


async def test_who_is_stopped_waits_no_longer():
    stop = asyncio.Event()
    waiting = asyncio.create_task(unless_stopped(stop, asyncio.Event().wait()))
    await asyncio.sleep(0)
    stop.set()
    assert await waiting is None
