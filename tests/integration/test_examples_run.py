"""Every example, trained for real by `fedn sandbox --example`, and one by hand as its README says."""

from __future__ import annotations

import gzip
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ports import settled_port

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
DATA = Path(os.environ.get("FEDN_DATA_DIR") or ROOT.parent / "shared" / "data")
IMAGES, LABELS = ("train-images-idx3-ubyte.gz", 16), ("train-labels-idx1-ubyte.gz", 8)

needs_mnist = pytest.mark.skipif(
    not (DATA / "mnist" / IMAGES[0]).is_file(), reason="FEDN_DATA_DIR names no folder with mnist/"
)


def needs(module: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(module) is None, reason=f"{module} is not installed")


def sandbox(home: Path, example: str, *flags: str, seconds: float = 110) -> tuple[dict[str, Any], str]:
    """What `--json` printed, and standard error; all processes are gone then."""
    words = ["sandbox", "--example", example, "--dir", str(home), "--port", "0", "--exit", "--json", *flags]
    environ = os.environ | {"FEDN_DATA_DIR": str(DATA)}
    done = subprocess.run(
        [sys.executable, "-m", "fedn", *words], cwd=home.parent, env=environ, capture_output=True,
        text=True, check=False, timeout=seconds,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["trail_ok"] is True
    assert report["example"] == example
    assert 0 <= report["flat_difference"] < 1e-6
    return report, done.stderr


def workers_started(home: Path) -> list[int]:
    """How often each client has started a worker."""
    return [log.read_text().count("worker_started") for log in (home / "logs").glob("client-*.log")]


# --- small ones ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("example", "metric", "low", "high"),
    [
        pytest.param("digits-sklearn", "accuracy", 0.85, 1.0, marks=needs("sklearn")),
        pytest.param("tabular-numpy", "accuracy", 0.95, 1.0, marks=needs("sklearn")),
        pytest.param(
            "any-language", "rmse", 0.09, 0.11,
            marks=pytest.mark.skipif(shutil.which("perl") is None, reason="perl is not installed"),
        ),
    ],
)  # fmt: skip
def test_small_example(tmp_path: Path, example: str, metric: str, low: float, high: float) -> None:
    home = tmp_path / "home"
    report, _ = sandbox(home, example, "--rounds", "4", "--clients", "3", "--combiners", "1")
    assert (report["rounds"], report["clients"], len(report["validation"])) == (4, 3, 4)
    assert low <= report["validation"][-1][metric] <= high
    assert workers_started(home) == [0 if example == "any-language" else 1] * 3


@needs("sklearn")
@needs("matplotlib")
def test_the_notebook_trains_the_same_model_here_and_on_a_network(tmp_path: Path) -> None:
    report, said = sandbox(tmp_path / "home", "notebook-fit")
    assert (report["clients"], len(report["accuracy"])) == (4, 10)
    here, there = (float(text) for text in re.findall(r"accuracy on the test set.*: ([\d.]+)", said))
    assert here == pytest.approx(there, abs=0.02)
    alone = [float(text) for text in re.findall(r"clinic-\d: ([\d.]+)", said)]
    assert max(alone) < 0.75 < 0.85 < here


BROKEN = {
    "fedn.yaml": 'name: broken\nentry_points: {startup: {python: "app:go"}, train: {python: "app:go"}}\n',
    "app.py": "def go(data):\n    raise ValueError('no such column')\n",
    "make_data.py": "import pathlib, sys\npathlib.Path(sys.argv[2], 'client-1.csv').write_text('x')\n",
    "seed.py": (
        "import numpy, sys\nfrom pathlib import Path\nfrom fedn.helpers.files import seed_file\n"
        "Path(sys.argv[1]).write_bytes(seed_file({'w': numpy.zeros(1)}))\n"
    ),
}


def test_one_that_can_not_take_part_ends_it_with_the_reason(tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    for name, text in BROKEN.items():
        (folder / name).write_text(text)
    words = [
        "sandbox",
        "--example",
        "./broken",
        "--clients",
        "1",
        "--combiners",
        "1",
        "--port",
        "0",
        "--exit",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "fedn", *words, "--dir", "home"], cwd=tmp_path, capture_output=True,
        text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 1
    assert "can't take part" in done.stderr
    assert "no such column" in done.stderr


# --- MNIST -----------------------------------------------------------------------------------------


@needs_mnist
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "example",
    [
        pytest.param("mnist-keras", marks=[needs("keras"), needs("tensorflow")]),
        pytest.param("mnist-pytorch", marks=needs("torch")),
    ],
)
def test_mnist_learns_at_five_uneven_clients(tmp_path: Path, example: str) -> None:
    home = tmp_path / "home"
    report, _ = sandbox(home, example, "--rounds", "3", seconds=550)
    sizes = [
        int(text) for text in report["data"].partition(":")[2].removesuffix("training images").split(",")
    ]
    assert (len(sizes), sum(sizes)) == (5, 60_000)
    assert max(sizes) > 3 * min(sizes)
    assert max(report["accuracy"]) >= 0.95
    assert workers_started(home) == [1] * 5


# --- the published run -----------------------------------------------------------------------------


def read_idx(name: str, offset: int) -> Any:
    with gzip.open(DATA / "mnist" / name) as file:
        return np.frombuffer(file.read(), np.uint8, offset=offset)


def published_protocol(rounds: int) -> list[float]:
    """Training accuracy by round, in one process and in float64; nothing of fedn is in it."""
    images = (read_idx(*IMAGES).astype(np.float64) / 255).reshape(10, 60, 100, 784)
    labels = read_idx(*LABELS).reshape(10, 60, 100)
    truth = np.eye(10)[labels]
    model = np.zeros((785, 10))
    accuracy = []
    for _ in range(rounds):
        models, right = [], 0
        for client in range(10):
            mine = model.copy()
            for batch in range(60):
                x = np.hstack([images[client, batch], np.ones((100, 1))])
                logits = x @ mine
                right += np.count_nonzero(np.argmax(logits, axis=1) == labels[client, batch])
                odds = np.exp(logits - np.max(logits, axis=1)[:, None])
                mine -= 0.02 * x.T @ (odds / odds.sum(axis=1)[:, None] - truth[client, batch]) / 100
            models.append(mine)
        model = np.mean(models, axis=0)
        accuracy.append(right / 60_000)
    return accuracy


@needs_mnist
@needs("matplotlib")
@pytest.mark.timeout(300)
def test_the_published_protocol_gives_what_one_process_computes(tmp_path: Path) -> None:
    report, said = sandbox(tmp_path / "home", "tff-kuzushiji", seconds=280)
    assert (report["rounds"], report["clients"], report["combiners"]) == (20, 10, 2)
    if not report["data"].startswith("MNIST"):
        pytest.skip("FEDN_DATA_DIR has Kuzushiji-MNIST, whose reference is what was published")
    ours = [metrics["accuracy"] for metrics in report["training"]]
    assert ours == pytest.approx(published_protocol(20), abs=1e-4)
    assert f"   20  {ours[-1]:.4f}     0.7902" in said
    assert (tmp_path / "tff-kuzushiji.png").read_bytes().startswith(b"\x89PNG")


# --- by hand ---------------------------------------------------------------------------------------


def commands_by_hand(example: str) -> list[list[str]]:
    """The blocks of commands under "By hand" in a README."""
    text = (EXAMPLES / example / "README.md").read_text().partition("## By hand")[2]
    blocks = [block for block in text.split("\n\n") if block.startswith("    ")]
    return [[line.strip() for line in block.splitlines()] for block in blocks]


@needs("sklearn")
@pytest.mark.timeout(300)
def test_by_hand_as_the_readme_says(tmp_path: Path) -> None:
    folder = tmp_path / "digits-sklearn"
    ignored = shutil.ignore_patterns("data", "fedn-data", "fedn-run", "seed.safetensors", "__pycache__")
    shutil.copytree(EXAMPLES / "digits-sklearn", folder, ignore=ignored)
    port = settled_port()
    url = f"http://127.0.0.1:{port}"
    elsewhere = {  # than where a reducer of this machine's own may be
        "FEDN_REDUCER_PORT": str(port), "FEDN_COMBINER_PORT": "0", "FEDN_COMBINER_REDUCER": url,
        "FEDN_CLIENT_REDUCER": url, "FEDN_URL": url,
    }  # fmt: skip
    environ = os.environ | elsewhere | {"FEDN_STOP_WITH_STDIN": "1"}

    def words(line: str) -> list[str]:
        first, *rest = shlex.split(line)
        return [sys.executable, *(["-m", "fedn"] if first == "fedn" else []), *rest]

    def run(line: str) -> str:
        done = subprocess.run(
            words(line), cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=200
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    make, local, servers, session = commands_by_hand("digits-sklearn")
    for line in [*make, *local]:
        run(line)
    with ExitStack() as stack:
        for line in servers:
            popen = stack.enter_context(
                subprocess.Popen(words(line), cwd=folder, env=environ, stdin=subprocess.PIPE,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            )  # fmt: skip
            stack.callback(popen.send_signal, signal.SIGTERM)
            assert popen.stderr is not None
            assert any(" is up" in line for line in iter(popen.stderr.readline, "")), line
        seed, upload, start = session
        run(seed)
        digest = run(upload).strip()
        said = run(start.replace("DIGEST", digest))
    assert "Session finished after round 10" in said
    assert float(re.findall(r"accuracy ([\d.]+)", said)[-1]) > 0.85
