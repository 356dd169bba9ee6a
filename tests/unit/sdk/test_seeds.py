"""A seed model from memory, a file, a URL or a function."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedn.domain.errors import InvalidInput, InvalidModel, LinkBroken
from fedn.helpers.files import read_file, seed_file
from fedn.sdk.seeds import gathered

MODEL = {"w": np.arange(6.0).reshape(2, 3), "b": np.zeros(3, np.float32)}
FILE = seed_file(MODEL)


def name_and_file(source: Any, **options: Any) -> tuple[str, bytes]:
    with gathered(source, **options) as found:
        file = found.file.read()
        assert len(file) == found.size
        return found.name, file


@contextmanager
def serving(handler: Any) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[str]:
    """The address of a folder with a model."""
    (tmp_path / "zeros.safetensors").write_bytes(FILE)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

    with serving(partial(Quiet, directory=str(tmp_path))) as url:
        yield url


# --- from memory -----------------------------------------------------------------------------------


def test_arrays(tmp_path: Path):
    assert name_and_file(MODEL) == ("", FILE)


def test_an_estimator():
    sklearn = pytest.importorskip("sklearn.linear_model")
    estimator = sklearn.LogisticRegression().fit(np.eye(3), [0, 1, 2])
    name, file = name_and_file(estimator)
    assert name == "LogisticRegression"
    assert set(read_file(memoryview(file))) == {"coef_", "intercept_", "classes_"}


def test_a_module():
    torch = pytest.importorskip("torch")
    module = torch.nn.Linear(3, 2)
    tensors = read_file(memoryview(name_and_file(module)[1]))
    assert np.array_equal(tensors["weight"], module.weight.detach().numpy())


# Keras asks its backends' tensors for arrays in a way that numpy 2 will not have for ever.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")
def test_a_keras_model_which_can_be_called_but_is_no_function():
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)], name="tiny")
    name, file = name_and_file(model)
    assert name == "tiny"
    assert read_file(memoryview(file))["dense/kernel"].shape == (3, 2)


@pytest.mark.parametrize("wrong", [3, [1.0], object(), None], ids=lambda wrong: type(wrong).__name__)
def test_what_is_no_model_is_named(wrong: Any):
    with pytest.raises(InvalidModel, match="is of no framework that is known"), gathered(wrong):
        pass


# --- from a file or a function ---------------------------------------------------------------------


def test_a_file(tmp_path: Path):
    path = tmp_path / "zeros.safetensors"
    path.write_bytes(FILE)
    assert name_and_file(path) == ("zeros", FILE)
    assert name_and_file(str(path)) == ("zeros", FILE)


def test_a_file_that_is_not_there(tmp_path: Path):
    with pytest.raises(InvalidInput, match=r"nowhere.*can't be read"), gathered(tmp_path / "nowhere"):
        pass


def test_a_function_of_any_of_these(tmp_path: Path):
    def build() -> Any:
        return MODEL

    path = tmp_path / "zeros.safetensors"
    path.write_bytes(FILE)
    assert name_and_file(build) == ("build", FILE)
    assert name_and_file(lambda: path) == ("zeros", FILE)
    with pytest.raises(InvalidModel, match="returned a function"), gathered(lambda: build):
        pass


# --- from a URL ------------------------------------------------------------------------------------


def test_an_address(folder: str):
    told: list[tuple[int, int]] = []
    assert name_and_file(f"{folder}/zeros.safetensors", told=lambda *of: told.append(of)) == ("zeros", FILE)
    assert told[-1] == (len(FILE), len(FILE))


def test_more_than_was_asked_for_is_not_read(folder: str):
    with (
        pytest.raises(InvalidInput, match=f"more than {len(FILE) - 1} bytes"),
        gathered(f"{folder}/zeros.safetensors", max_bytes=len(FILE) - 1),
    ):
        pass


def test_a_server_without_end_is_left():
    class Endless(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(bytes(2**16))
            except OSError:
                left.set()

        def log_message(self, *_: Any) -> None: ...

    left = threading.Event()
    with serving(Endless) as url:
        with pytest.raises(InvalidInput, match="more than 1000000 bytes"), gathered(url, max_bytes=10**6):
            pass
        assert left.wait(30)


def test_an_address_with_nothing_there_is_named_without_what_is_secret_in_it(folder: str):
    address = folder.replace("//", "//me:pa55@") + "/nowhere.safetensors?signature=s3cret"
    with (
        pytest.raises(InvalidInput, match=r"nowhere\.safetensors: answered 404") as refused,
        gathered(address),
    ):
        pass
    assert "s3cret" not in str(refused.value)
    assert "pa55" not in str(refused.value)


def test_nobody_at_the_address():
    with pytest.raises(LinkBroken, match="can't be read"), gathered("http://127.0.0.1:9/x.safetensors"):
        pass


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://h/x", "http://", "http://[::1"])
def test_other_addresses_are_refused(address: str):
    with pytest.raises(InvalidInput, match="give http"), gathered(address):
        pass
