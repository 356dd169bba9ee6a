"""Exporters behind their queue: nobody waits for one that is slow, and one that fails is only logged."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from fedn.domain.errors import InvalidInput
from fedn.ports import Observed
from fedn.reducer.observing import Background, Everybody, open_exporters


class Slow:
    """Takes in one event, and the next one only when its gate is open."""

    events = frozenset({"a", "b"})

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.begun, self.gate = threading.Event(), threading.Event()
        self.closed = False

    def observe(self, observed: Observed) -> None:
        self.begun.set()
        assert self.gate.wait(30)
        self.seen.append(f"{observed.event}{observed.fields['n']}")

    def close(self) -> None:
        self.closed = True


class Broken(Slow):
    def observe(self, observed: Observed) -> None:
        self.seen.append(observed.event)
        raise RuntimeError("no such server")


def happened(event: str, n: int = 0) -> Observed:
    return Observed(event, {"n": n})


def test_what_does_not_fit_is_dropped_with_a_warning_and_nobody_waits(caplog) -> None:
    exporter = Slow()
    behind = Background("slow", exporter, waiting=2)
    behind.observe(happened("a", 0))
    assert exporter.begun.wait(30)
    for n in range(1, 6):
        behind.observe(happened("b", n))
    assert caplog.messages == ["slow is too slow: events for it are dropped"]
    exporter.gate.set()
    behind.close(30.0)
    assert exporter.seen == ["a0", "b1", "b2"]
    assert exporter.closed
    assert caplog.messages[-1] == "3 events for slow were dropped"
    behind.observe(happened("a", 9))  # after its end nothing happens


def test_an_exporter_that_fails_is_told_on_and_logged_once(caplog) -> None:
    exporter = Broken()
    behind = Background("broken", exporter)
    told: list[Observed] = []

    class Hub:
        def observe(self, observed: Observed) -> None:
            told.append(observed)

    everybody = Everybody(Hub(), behind)
    with caplog.at_level(logging.WARNING):
        for event in ("a", "nobody's", "b"):
            everybody.observe(happened(event))
        behind.close(30.0)
    assert exporter.seen == ["a", "b"]
    assert [observed.event for observed in told] == ["a", "nobody's", "b"]
    assert caplog.messages == ["broken failed: RuntimeError: no such server"]


def test_one_that_hangs_is_left_behind_at_the_end(caplog) -> None:
    exporter = Slow()
    behind = Background("hung", exporter)
    behind.observe(happened("a"))
    assert exporter.begun.wait(30)
    behind.close(0.05)
    assert "hung was left behind" in caplog.messages[0]
    exporter.gate.set()


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plug-in of another package."""
    meta = tmp_path / "exporting-1.0.dist-info"
    meta.mkdir()
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: exporting\nVersion: 1.0\n")
    (meta / "entry_points.txt").write_text("[fedn.observers]\nfolder = exporting_plugin:Folder\n")
    (tmp_path / "exporting_plugin.py").write_text(
        "from pathlib import Path\n"
        "class Folder:\n"
        "    events = frozenset({'a'})\n"
        "    def __init__(self, location):\n"
        "        self.file = Path(location)\n"
        "    def observe(self, observed):\n"
        "        self.file.write_text(observed.event)\n"
        "    def close(self):\n"
        "        self.file.write_text(self.file.read_text() + '.')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("installed")
def test_a_plug_in_is_opened_by_name_and_location(tmp_path) -> None:
    [behind] = open_exporters([f"folder:{tmp_path}/a:b"])
    behind.observe(happened("a"))
    behind.close(30.0)
    assert (tmp_path / "a:b").read_text() == "a."
    with pytest.raises(InvalidInput, match=r"observers: 'nothing' is unknown — known are .*folder"):
        open_exporters(["nothing:here"])
