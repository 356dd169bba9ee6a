"""Names to classes through real entry points, found in a real folder on the path."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedn import plugins
from fedn.aggregation.mean import Mean
from fedn.aggregation.optimizers import Adagrad, Adam, Sgd, Yogi
from fedn.domain.errors import InvalidInput
from fedn.helpers.numpy import NumpyHelper
from fedn.helpers.sklearn import SklearnHelper
from fedn.selection.uniform import Uniform


def install(folder: Path, name: str, entries: str) -> None:
    """What an installer leaves behind of a package."""
    meta = folder / f"{name}-1.0.dist-info"
    meta.mkdir()
    (meta / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (meta / "entry_points.txt").write_text(entries)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("group", "name", "expected"),
    [
        ("fedn.aggregators", "mean", Mean),
        ("fedn.server_optimizers", "sgd", Sgd),
        ("fedn.server_optimizers", "adagrad", Adagrad),
        ("fedn.server_optimizers", "adam", Adam),
        ("fedn.server_optimizers", "yogi", Yogi),
        ("fedn.helpers", "numpy", NumpyHelper),
        ("fedn.helpers", "sklearn", SklearnHelper),
        ("fedn.selectors", "uniform", Uniform),
    ],
)
def test_the_built_ins_are_registered(group: str, name: str, expected: type) -> None:
    assert plugins.load(group, name) is expected
    assert plugins.available()[group][name] == f"{expected.__module__}:{expected.__qualname__}"


def test_a_plug_in_is_found_where_it_is_installed(site: Path) -> None:
    install(site, "robust", "[fedn.aggregators]\nmedian = robust_numerics:Median\n")
    (site / "robust_numerics.py").write_text("class Median:\n    pass\n")
    plugins.check("fedn.aggregators", "median")
    assert plugins.load("fedn.aggregators", "median").__name__ == "Median"
    assert plugins.available()["fedn.aggregators"]["median"] == "robust_numerics:Median"


@pytest.mark.parametrize(
    ("group", "field"),
    [
        ("fedn.aggregators", "aggregator: 'nope' is unknown — known are .*mean"),
        ("fedn.server_optimizers", "server_optimizer: 'nope' is unknown — known are .*sgd"),
        ("fedn.helpers", "helper: 'nope' is unknown — known are .*numpy, sklearn"),
        ("fedn.selectors", "selection: 'nope' is unknown — known are .*uniform"),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones(group: str, field: str) -> None:
    for attempt in (plugins.load, plugins.check):
        with pytest.raises(InvalidInput, match=field):
            attempt(group, "nope")


def test_a_plug_in_that_can_not_be_imported_says_why(site: Path) -> None:
    install(site, "broken", "[fedn.selectors]\nbroken = no_such_module_anywhere:Thing\n")
    with pytest.raises(InvalidInput, match=r"selection: 'broken' .* ModuleNotFoundError"):
        plugins.load("fedn.selectors", "broken")


def test_a_plug_in_is_made_only_whole(site: Path) -> None:
    install(site, "half", "[fedn.selectors]\nhalf = half:Half\nneedy = half:Needy\n")
    (site / "half.py").write_text("class Half:\n    pass\n\nclass Needy:\n    def __init__(self, key): ...\n")
    with pytest.raises(InvalidInput, match=r"selection: 'half' lacks select — see fedn.ports.ClientSelector"):
        plugins.make("fedn.selectors", "half")
    with pytest.raises(InvalidInput, match=r"selection: 'needy' can't be built: TypeError: .*'key'"):
        plugins.make("fedn.selectors", "needy")
    assert isinstance(plugins.make("fedn.selectors", "uniform"), Uniform)


def test_a_name_that_two_packages_claim_is_refused(site: Path) -> None:
    install(site, "one", "[fedn.helpers]\nmine = json:loads\n")
    install(site, "other", "[fedn.helpers]\nmine = json:dumps\n")
    with pytest.raises(InvalidInput, match=r"several packages \(json:dumps, json:loads\)"):
        plugins.load("fedn.helpers", "mine")
