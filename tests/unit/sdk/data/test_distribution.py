"""What the parts hold, in numbers and as a picture."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import fedn
from fedn.domain.errors import InvalidInput


@given(st.lists(st.sampled_from(["b", "a", "ä", "_", ""]), min_size=1, max_size=60), st.integers(1, 5))
def test_it_counts_as_a_counter_does(labels, clients):
    parts = fedn.data.partition(len(labels), clients, min_examples=0)
    counted = fedn.data.distribution(labels, parts)
    assert counted.labels == tuple(sorted({*labels}))
    assert counted.counts.shape == (clients, len({*labels}))
    assert counted.sizes.tolist() == [len(part) for part in parts]
    assert list(counted.by_label()) == [Counter(labels[index] for index in part) for part in parts]


def test_it_reads_as_a_table():
    counted = fedn.data.distribution([b"x", b"y", b"x"], [[0, 2], [1]])
    assert str(counted) == "client  examples  x  y\n     1         2  2  0\n     2         1  0  1"


def test_parts_of_other_data_and_quantities_are_refused():
    with pytest.raises(InvalidInput, match="parts: that of client 1 has an index beyond the 2 examples"):
        fedn.data.distribution([1, 2], [[2]])
    with pytest.raises(InvalidInput, match="labels: has 20000 distinct values"):
        fedn.data.distribution(np.arange(20_000), [[0]])


# --- the picture -----------------------------------------------------------------------------------


def colours(file) -> Counter:
    """How many pixels of each colour are in a PNG."""
    with Image.open(file) as image:
        return Counter(map(tuple, np.asarray(image.convert("RGB")).reshape(-1, 3).tolist()))


def test_each_label_has_an_area_in_proportion_and_the_title_says_simulation(tmp_path):
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    file = tmp_path / "plot.png"
    fedn.data.plot(labels, fedn.data.partition(labels, 4), file, title="three labels")
    with Image.open(file) as image:
        assert image.text["Title"] == "three labels (for simulation)"
        assert min(image.size) > 500
    blue, orange, green = (31, 119, 180), (255, 127, 14), (44, 160, 44)
    found = colours(file)
    assert found[blue] / found[orange] == pytest.approx(2, rel=0.1)
    assert found[blue] / found[green] == pytest.approx(6, rel=0.2)
    assert [path.name for path in tmp_path.iterdir()] == ["plot.png"]


@pytest.mark.parametrize(
    ("labels", "clients"),
    [(np.array([f"_cost$ {n * 7 % 97} $" for n in range(2000)]), 201), (np.zeros(5), 1)],
    ids=["many and odd", "one of each"],
)
def test_anything_can_be_drawn(tmp_path, labels, clients):
    fedn.data.plot(labels, fedn.data.partition(labels, clients), tmp_path / "p.png", title="$_" * 90)
    assert len(colours(tmp_path / "p.png")) > 3


def test_a_plot_that_can_not_be_drawn_says_why(tmp_path, monkeypatch):
    with pytest.raises(InvalidInput, match=r"plot: 'x\.jpg' does not end in \.png"):
        fedn.data.plot([1], [[0]], "x.jpg")
    with pytest.raises(InvalidInput, match=r"can't be written .No such file"):
        fedn.data.plot([1], [[0]], tmp_path / "nowhere" / "x.png")
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as where it is not installed
    with pytest.raises(InvalidInput, match=r"plot: needs matplotlib.*pip install '\.\[plot\]'"):
        fedn.data.plot([1], [[0]], tmp_path / "x.png")


def test_nothing_heavy_is_loaded_before_it_is_used():
    script = (
        "import sys, fedn; before = 'numpy' in sys.modules; fedn.data.partition(9, 3);"
        "print(before, {'matplotlib', 'keras', 'grpc', 'asyncio'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "False set()"
