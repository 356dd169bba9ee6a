"""Files that the client writes where user code may have put something, and folders that it removes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fedn.client.predictions import publish
from fedn.client.shelf import remove
from fedn.client.written import hand_over
from fedn.domain.errors import InvalidInput
from fedn.domain.ids import Digest, SessionId
from fedn.domain.messages import Task, TaskKind

TASK = Task(SessionId("s"), 1, TaskKind.PREDICT, Digest("a" * 64), 1, "{}", 0)


def test_a_link_in_its_place_leads_nowhere(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_bytes(b"secret")
    model = tmp_path / "model.safetensors"
    model.symlink_to(key)
    hand_over(model, b"numbers")
    assert key.read_bytes() == b"secret"
    assert model.read_bytes() == b"numbers"
    assert not model.is_symlink()


def test_a_pipe_in_its_place_is_not_waited_for(tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    os.mkfifo(model)
    hand_over(model, b"numbers")
    assert model.read_bytes() == b"numbers"


def test_predictions_that_are_a_link_to_a_folder_are_refused(tmp_path: Path) -> None:
    identity, output = tmp_path / "identity", tmp_path / "output"
    identity.mkdir()
    output.symlink_to(identity)
    with pytest.raises(InvalidInput, match="output"):
        publish(output, tmp_path / "predictions", TASK)
    assert not (tmp_path / "predictions").exists()


def test_folders_in_folders_by_the_thousand_are_removed(tmp_path: Path) -> None:
    top = tmp_path / "work"
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    for _ in range(3000):  # their path would be longer than any that may be given
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    remove(top)
    assert not top.exists()
