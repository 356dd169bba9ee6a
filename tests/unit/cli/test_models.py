"""`fedn model inspect`, `show`, `compare` and `download --format`."""

from __future__ import annotations

import io

import httpx
import numpy as np
import pytest

from fedn.cli.model import FORMATS
from fedn.domain.ids import digest_of
from fedn.helpers.files import seed_file
from fedn.reducer.exporting import NAMES

FIRST = {"dense/kernel": np.ones((2, 3), np.float32), "steps": np.array(3)}
SECOND = FIRST | {"dense/kernel": np.full((2, 3), 2, np.float32)}


@pytest.fixture
def files(tmp_path):
    """Two models on disk."""
    paths = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    for path, tensors in zip(paths, (FIRST, SECOND), strict=True):
        path.write_bytes(seed_file(tensors))
    return paths


@pytest.fixture
def seeds(fedn, files):
    """Their digests, seeded."""
    return [fedn.json("model", "seed", file)["digest"] for file in files]


def test_a_file_is_inspected_without_a_reducer(alone, files):
    told = alone.json("model", "inspect", files[0])
    assert told["digest"] == digest_of(files[0].read_bytes())
    assert (told["contents"]["parameters"], told["contents"]["averaged"]) == (7, 6)
    assert {one["name"]: one["shape"] for one in told["tensors"]} == {"dense/kernel": [2, 3], "steps": []}
    shown = alone.good("model", "inspect", files[0])
    assert "7, of which rounds change 6" in shown
    assert "dense/kernel" in shown
    files[0].write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99))
    assert "is HDF5" in alone.refused(2, "model", "inspect", files[0])
    files[0].write_bytes(b"")
    assert "is empty" in alone.refused(2, "model", "inspect", files[0])


def test_a_model_is_shown_with_where_it_is_from(fedn, service, small):
    session = small.seeded(service)
    service.commit(session.session, 0.5)
    head = service.state.session(session.session).head.model
    told = fedn.json("model", "show", head)
    assert told["lineage"]["made"][0]["round"] == 1
    shown = fedn.good("model", "show", head)
    assert "round 1 of digits" in shown
    assert "digits (from zeros)" in shown
    assert "digits" in fedn.good("model", "show", "zeros")


def test_two_models_are_compared(fedn, seeds):
    told = fedn.json("model", "compare", *seeds)
    assert (told["first"], told["second"]) == tuple(seeds)
    assert told["total"]["relative"] == 1.0  # of the floats alone
    shown = fedn.good("model", "compare", "first", "second", "--limit", 1)
    assert "dense/kernel" in shown
    assert "steps" not in shown


def test_a_model_comes_as_npz(fedn, seeds, tmp_path):
    target = tmp_path / "out" / "model.npz"
    target.parent.mkdir()
    told = fedn.json("model", "download", seeds[1], "--format", "npz", "-o", target)
    assert (told["size"], told["format"]) == (target.stat().st_size, "npz")
    with np.load(target, allow_pickle=False) as arrays:
        assert np.array_equal(arrays["dense/kernel"], SECOND["dense/kernel"])
        assert set(arrays) == set(SECOND)
    assert list(target.parent.iterdir()) == [target]
    assert "is there already" in fedn.refused(
        2, "model", "download", seeds[1], "--format", "npz", "-o", target
    )


def test_a_form_that_can_not_be_had_says_how_to_get_there(alone):
    assert FORMATS == NAMES
    said = alone.refused(2, "model", "download", "x", "--format", "keras")
    assert "architecture" in said
    assert "load_into(model)" in said


def test_the_reducer_itself_gives_npz_in_pieces(fedn, seeds):
    answer = httpx.get(f"{fedn.url}/api/v1/models/{seeds[0]}?format=npz", trust_env=False)
    with np.load(io.BytesIO(answer.content), allow_pickle=False) as arrays:
        assert np.array_equal(arrays["dense/kernel"], FIRST["dense/kernel"])
