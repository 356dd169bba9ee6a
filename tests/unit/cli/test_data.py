"""`fedn data`, from a file to a folder per client and back to the screen."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from fedn.cli import data
from fedn.sdk.data import SCHEMES

X = np.random.default_rng(5).normal(size=(200, 3)).astype(np.float32)
Y = np.arange(200) // 20


@pytest.fixture
def file(tmp_path):
    """Two hundred rows of ten labels, in order."""
    np.savez(tmp_path / "rows.npz", x=X, y=Y, site=np.array(["north", "south"])[Y % 2])
    return tmp_path / "rows.npz"


def shares(folder, clients: int) -> list[dict[str, np.ndarray]]:
    """What clients would load."""
    files = [np.load(folder / f"client-{number}.npz", allow_pickle=False) for number in range(1, clients + 1)]
    arrays = [dict(found) for found in files]
    for found in files:
        found.close()
    return arrays


def test_the_schemes_are_those_of_the_library():
    assert data.SCHEMES == SCHEMES


def test_a_file_is_split_shown_and_drawn(alone, file, tmp_path):
    out, plot = tmp_path / "parts", tmp_path / "parts.png"
    flags = (
        "--clients",
        4,
        "--scheme",
        "dirichlet",
        "--alpha",
        0.3,
        "--label",
        "y",
        "--seed",
        1,
        "--out",
        out,
    )
    told = alone.json("data", "split", file, *flags, "--plot", plot)
    found = shares(out, 4)
    rows = np.concatenate([share["x"] for share in found])
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, X.tolist()))
    for share, client in zip(found, told["clients"], strict=True):
        labels, counts = np.unique(share["y"], return_counts=True)
        assert client["counts"] == dict(zip(map(str, labels), counts.tolist(), strict=True))
        assert client["examples"] == len(share["x"])
        for x, y in zip(share["x"], share["y"], strict=True):
            assert Y[np.flatnonzero((x == X).all(axis=1))] == y
    kept = json.loads((out / "partition.json").read_text())
    assert told == {"folder": str(out), **kept}
    assert (kept["scheme"], kept["alpha"], kept["seed"], kept["examples"]) == ("dirichlet", 0.3, 1, 200)
    assert kept["note"] == "For simulation only: in a real federation data stays where it is."
    assert plot.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert alone.json("data", "show", out) == told
    result = alone("data", "show", out, "--plot", tmp_path / "again.png")
    assert "For simulation only" in result.stderr
    assert [line.split()[1] for line in result.stdout.splitlines() if "client-" in line] == [
        str(client["examples"]) for client in told["clients"]
    ]
    assert (tmp_path / "again.png").read_bytes() == plot.read_bytes()


def test_the_same_seed_makes_the_same_files(alone, file, tmp_path):
    def made(folder: str, seed: int) -> dict[str, bytes]:
        flags = ("--clients", 3, "--seed", seed, "--out", tmp_path / folder)
        alone.good("data", "split", file, *flags)
        return {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()}

    first = made("first", 1)
    assert {*first} == {"client-1.npz", "client-2.npz", "client-3.npz", "partition.json"}
    assert made("second", 1) == first
    assert made("third", 2) != first


def test_every_scheme_from_the_command_line(alone, file, tmp_path):
    def sizes(*flags: object) -> list[int]:
        told = alone.json("data", "split", file, "--out", tmp_path / "p", "--force", *flags)
        assert [len(share["y"]) for share in shares(tmp_path / "p", len(told["clients"]))] == [
            client["examples"] for client in told["clients"]
        ]
        return [client["examples"] for client in told["clients"]]

    assert sizes("--clients", 3) == [67, 67, 66]
    assert sizes("--clients", 3, "--sizes", "3,1,1") == [120, 40, 40]
    assert sizes("--clients", 4, "--scheme", "contiguous") == [50] * 4
    assert shares(tmp_path / "p", 4)[1]["y"].tolist() == Y[50:100].tolist()
    assert sizes("--clients", 5, "--scheme", "by_label") == [40] * 5
    assert sizes("--clients", 10, "--scheme", "by_label", "--labels-per-client", 1) == [20] * 10
    assert sizes("--scheme", "by_key", "--key", "site") == [100, 100]
    assert {*shares(tmp_path / "p", 2)[0]["site"].tolist()} == {"north"}
    assert min(sizes("--clients", 9, "--scheme", "dirichlet", "--min-examples", 7)) >= 7


def test_without_labels_the_examples_are_counted(alone, file, tmp_path):
    out = tmp_path / "parts"
    flags = ("--array", "x", "--clients", 2, "--out", out, "--plot", tmp_path / "p.png")
    told = alone.json("data", "split", file, *flags)
    assert (told["labels"], told["label"]) == ([], None)
    assert {*shares(out, 2)[0]} == {"x"}
    assert "100" in alone.good("data", "show", out)


def test_a_table_and_a_folder_of_idx_files_are_split(alone, tmp_path):
    table = tmp_path / "patients.csv"
    table.write_text("age,hospital,outcome\n" + "".join(f"{n},h{n % 3},{n % 2}\n" for n in range(30)))
    by_key = ("--scheme", "by_key", "--key", "hospital", "--label", "outcome", "--out", tmp_path / "a")
    told = alone.json("data", "split", table, *by_key)
    assert (told["columns"], told["key"], told["label"]) == (["age"], "hospital", "outcome")
    assert [{*share["key"].tolist()} for share in shares(tmp_path / "a", 3)] == [{"h0"}, {"h1"}, {"h2"}]
    idx = tmp_path / "idx"
    idx.mkdir()
    images, labels = bytes(range(40)), bytes([0, 1] * 5)
    head = b"\0\0\x08\x03" + b"".join(n.to_bytes(4) for n in (10, 2, 2))
    (idx / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(head + images))
    (idx / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\x0a" + labels))
    told = alone.json("data", "split", idx, "--subset", "test", "--clients", 2, "--out", tmp_path / "b")
    assert told["labels"] == ["0", "1"]
    assert told["arrays"]["x"] == {"dtype": "uint8", "shape": ["examples", 2, 2]}
    assert "train-images-idx3-ubyte.gz" in alone.refused(
        2, "data", "split", idx, "--clients", 2, "--out", tmp_path / "c"
    )


def test_many_labels_are_told_in_short(alone, tmp_path):
    np.savez(tmp_path / "d.npz", y=np.append(np.arange(50), [7] * 5))
    table = alone.good("data", "split", tmp_path / "d.npz", "--clients", 1, "--out", tmp_path / "p")
    assert table.splitlines()[-2].split() == ["client-1.npz", "55", "50", "7"]


def test_nothing_is_overwritten_unless_forced(alone, file, tmp_path):
    out = tmp_path / "parts"
    flags = ("data", "split", file, "--out", out, "--clients")
    alone.good(*flags, 3)
    before = {path: path.read_bytes() for path in out.iterdir()}
    message = alone.refused(2, *flags, 2)
    assert message.startswith("--out ")
    assert "parts: is not empty — give another folder, or --force" in message
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    alone.good(*flags, 2, "--force")
    assert {path.name for path in out.iterdir()} == {"client-1.npz", "client-2.npz", "partition.json"}
    plot = tmp_path / "p.png"
    plot.write_bytes(b"mine")
    assert "p.png: is there already" in alone.refused(2, "data", "show", out, "--plot", plot)
    assert plot.read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--clients", 2, "--scheme", "best"], "'best' is not one of"),
        (
            ["--clients", 2, "--alpha", 1],
            "--alpha: does not go with even — leave it out, or add --scheme dirichlet",
        ),
        (["--clients", 2, "--labels-per-client", 1], "--labels-per-client: does not go with even"),
        (["--clients", 2, "--key", "site"], "--key: does not go with even"),
        (["--scheme", "by_key"], "--key: is missing; by_key needs it"),
        (["--clients", 2, "--sizes", "a,b"], "--sizes: 'a,b' is no list of numbers"),
        (["--clients", 2, "--sizes", "1,2,3"], "sizes: has shape (3,) for 2 clients"),
        (["--clients", 2, "--plot", "p.jpg"], "plot: 'p.jpg' does not end in .png"),
        (
            ["--clients", 2, "--array", "x", "--scheme", "dirichlet"],
            "--label: is missing; dirichlet needs it",
        ),
        (["--clients", 2, "--label", "z"], "rows.npz has no array 'z' — it has x, y, site"),
        (["--clients", 2, "--label", "x", "--scheme", "by_label"], "labels: has shape (200, 3)"),
        (["--clients", 201], "clients: 201 with at least 1 each need more than the 200 examples"),
        ([], "clients: is missing"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_bad_input_is_named_and_leaves_nothing_behind(alone, file, tmp_path, flags, words):
    assert words in alone.refused(2, "data", "split", file, "--out", tmp_path / "parts", *flags)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.npz"]


def test_a_folder_without_a_split_is_not_found(alone, tmp_path):
    assert "holds no split; `fedn data split FILE" in alone.refused(4, "data", "show", tmp_path)
