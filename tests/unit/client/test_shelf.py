"""The shelf of unpacked packages, when the disk fails."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from small_packages import good

from fedn.client.shelf import Shelf
from fedn.domain.errors import StoreUnavailable
from fedn.domain.ids import Digest


def test_what_a_failing_disk_left_of_a_package_is_no_conflict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, shelf, sync = good(), Shelf(tmp_path / "packages"), os.fsync

    def fail_after_rename(file: int) -> None:
        if any((tmp_path / "packages" / small.digest).glob("*")):
            raise OSError(5, "Input/output error")
        sync(file)

    monkeypatch.setattr(os, "fsync", fail_after_rename)
    with pytest.raises(StoreUnavailable):
        shelf.take(Digest(small.digest), memoryview(small.archive))
    assert (tmp_path / "packages" / small.digest).is_dir()
    monkeypatch.undo()
    assert shelf.take(Digest(small.digest), memoryview(small.archive)).manifest.name == "small"
