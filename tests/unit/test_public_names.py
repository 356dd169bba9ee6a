from __future__ import annotations

import subprocess
import sys

import fedn


def test_all_lists_the_public_names_and_each_of_them_is_there() -> None:
    assert sorted(fedn.__all__) == fedn.__all__
    assert {*fedn.__all__} == {*fedn._HOMES, "__version__"}
    for name in fedn.__all__:
        assert getattr(fedn, name) is not None


def test_a_name_that_is_not_there_says_so() -> None:
    assert not hasattr(fedn, "no_such_name")


def test_importing_the_package_imports_nothing_of_it() -> None:
    script = "import sys, fedn; print(*(n for n in sys.modules if n.startswith(('fedn', 'numpy', 'grpc'))))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["fedn"]
