"""A client's directory: one process at a time, the same identity for ever."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fedn.client.state_dir import claim
from fedn.domain.errors import Conflict, Damaged, InvalidInput
from fedn.domain.ids import check_id

HOLDER = """
import sys
from pathlib import Path
from fedn.client.state_dir import claim
from fedn.domain.errors import Conflict
try:
    held = claim(Path(sys.argv[1]), sys.argv[2])
except Conflict as error:
    print("conflict", flush=True)
else:
    print(held.name, held.client, flush=True)
    sys.stdin.read()
"""


class Holder:
    """Another process that claims and holds until it is let go or killed."""

    def __init__(self, parent: Path, name: str = "") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(parent), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip

    def said(self) -> list[str]:
        assert self.process.stdout
        return self.process.stdout.readline().split()

    def __enter__(self) -> Holder:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()


def test_the_identity_stays(tmp_path: Path) -> None:
    first = claim(tmp_path, "hospital-a")
    first.release()
    again = claim(tmp_path, "hospital-a")
    again.release()
    assert again.client == first.client
    assert first.client.startswith("hospital-a-")
    assert check_id("client", first.client)


def test_the_same_name_elsewhere_is_another_client(tmp_path: Path) -> None:
    one, other = claim(tmp_path / "x", "ann"), claim(tmp_path / "y", "ann")
    assert one.client != other.client
    one.release()
    other.release()


def test_a_claimed_directory_survives_a_power_cut(tmp_path: Path, disk_calls: list[tuple[str, int]]) -> None:
    claim(tmp_path / "clients", "ann").release()
    above, parent, own = (
        p.stat().st_ino for p in (tmp_path, tmp_path / "clients", tmp_path / "clients" / "ann")
    )
    assert disk_calls[:4] == [("mkdir", parent), ("fsync", above), ("mkdir", own), ("fsync", parent)]


def test_everything_lies_below_its_own_directory(tmp_path: Path) -> None:
    held = claim(tmp_path, "ann")
    held.release()
    assert {held.journal.parent, held.kept.parent, held.models.parent} == {tmp_path / "ann"}
    assert len({held.journal, held.kept, held.models}) == 3


def test_a_long_name_still_makes_a_valid_id(tmp_path: Path) -> None:
    held = claim(tmp_path, "n" * 64)
    held.release()
    assert len(check_id("client", held.client)) <= 64


@pytest.mark.parametrize("name", ["..", "a/b", ".hidden", "a b", "n" * 65])
def test_a_name_can_not_become_another_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput):
        claim(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"client": "../x"}', '{"client": 5}'])
def test_a_spoilt_identity_is_said_not_replaced(tmp_path: Path, content: str) -> None:
    held = claim(tmp_path, "ann")
    held.release()
    (tmp_path / "ann" / "client.json").write_text(content)
    with pytest.raises(Damaged, match=r"client\.json"):
        claim(tmp_path, "ann")
    (tmp_path / "ann" / "client.json").write_text(json.dumps({"client": held.client}))
    again = claim(tmp_path, "ann")
    again.release()
    assert again.client == held.client


def test_a_claimed_directory_is_refused_within_the_process_too(tmp_path: Path) -> None:
    held = claim(tmp_path, "ann")
    with pytest.raises(Conflict, match="--name"):
        claim(tmp_path, "ann")
    held.release()
    claim(tmp_path, "ann").release()


def test_a_place_in_a_shared_folder_is_numbered_in_the_name_and_stays_who_it_was(tmp_path: Path) -> None:
    first, second = (claim(tmp_path, "clinic-{slot}") for _ in range(2))
    assert [(held.name, held.slot) for held in (first, second)] == [("clinic-1", 1), ("clinic-2", 2)]
    first.release()
    again = claim(tmp_path, "clinic-{slot}")
    assert (again.client, again.slot) == (first.client, 1)
    again.release()
    second.release()
    named = claim(tmp_path, "clinic-2")
    named.release()
    assert (named.client, named.slot) == (second.client, 0)


def test_another_process_is_refused_until_the_first_has_gone(tmp_path: Path) -> None:
    with Holder(tmp_path, "ann") as first:
        name, client = first.said()
        assert name == "ann"
        with Holder(tmp_path, "ann") as second:
            assert second.said() == ["conflict"]
        with pytest.raises(Conflict):
            claim(tmp_path, "ann")
    held = claim(tmp_path, "ann")
    held.release()
    assert held.client == client


def test_clients_under_one_parent_each_get_their_own(tmp_path: Path) -> None:
    with Holder(tmp_path) as a, Holder(tmp_path) as b, Holder(tmp_path) as c:
        said = [holder.said() for holder in (a, b, c)]
    assert sorted(name for name, _ in said) == ["client-1", "client-2", "client-3"]
    assert len({client for _, client in said}) == 3
    held = claim(tmp_path)
    held.release()
    assert [held.name, held.client] in said


def test_sigkill_frees_the_directory_at_once(tmp_path: Path) -> None:
    holder = Holder(tmp_path, "ann")
    _, client = holder.said()
    holder.process.send_signal(signal.SIGKILL)
    holder.process.communicate()
    held = claim(tmp_path, "ann")
    held.release()
    assert held.client == client
