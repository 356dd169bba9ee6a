"""Keras models through tensors and back, on TensorFlow, and all of it again in a process on PyTorch."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fedn.domain.errors import InvalidInput, InvalidModel
from fedn.helpers.files import layout_of, read_file, seed_file, write_update
from fedn.helpers.keras import KerasHelper
from fedn.testing.contracts.helper import ProximalHelperContract

keras = pytest.importorskip("keras", reason="needs the extra 'keras'")
# Keras asks its backends' tensors for arrays in a way that numpy 2 will not have for ever.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")
K = keras.layers
X = np.linspace(-1, 1, 24, dtype=np.float32).reshape(8, 3)
Y = X.sum(axis=1, keepdims=True)
FROM_ELSEWHERE = "FEDN_TEST_FROM_OTHER_BACKEND"


def app(build: Callable[[], Any]) -> SimpleNamespace:
    return SimpleNamespace(build=build)


def names(model: Any) -> list[str]:
    return list(KerasHelper().dump(model))


def sequential() -> Any:
    return keras.Sequential([keras.Input((3,)), K.Dense(4), K.Dense(2, name="head"), K.Dense(1)])


def functional() -> Any:
    shared = keras.Sequential([K.Dense(2), K.BatchNormalization()])
    first, second = keras.Input((5, 3)), keras.Input((5, 3))
    both = K.Concatenate()([shared(second), shared(first)])
    both = K.Bidirectional(K.LSTM(2, return_sequences=True))(both)
    both = K.Dropout(0.5)(both)
    both = K.MultiHeadAttention(1, 2)(both, both)
    return keras.Model([first, second], K.Dense(1)(K.Flatten()(both)))


class Block(K.Layer):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.inner = K.Dense(2)

    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(shape=(2,), initializer="ones")
        self.shift = self.add_weight(shape=(2,), initializer="zeros")
        self.calls = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", trainable=False, name="calls"
        )
        self.inner.build(shape)

    def call(self, inputs: Any) -> Any:
        return self.inner(inputs) * self.scale + self.shift


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = [Block(), Block(name="block_1"), Block(name="last")]
        self.heads = {"mean": K.Dense(1), "spread": K.Dense(1, use_bias=False)}
        self.offset = self.add_weight(shape=(1,), name="offset")

    def call(self, inputs: Any) -> Any:
        for block in self.blocks:
            inputs = block(inputs)
        return self.heads["mean"](inputs) + self.heads["spread"](inputs) + self.offset


def subclassed() -> Any:
    model = Subclassed()
    model(X)
    return model


STATISTICS = ["gamma", "beta", "moving_mean", "moving_variance"]
NAMES = {
    sequential: ["dense/kernel", "dense/bias", "head/kernel", "head/bias", "dense_1/kernel", "dense_1/bias"],
    functional: [
        "sequential/dense/kernel", "sequential/dense/bias",
        *[f"sequential/batch_normalization/{name}" for name in STATISTICS],
        *[f"bidirectional/{way}_lstm/lstm_cell/{name}" for way in ("forward", "backward")
          for name in ("kernel", "recurrent_kernel", "bias")],
        *[f"multi_head_attention/{part}/{name}" for part in ("query", "key", "value", "attention_output")
          for name in ("kernel", "bias")],
        "dense/kernel", "dense/bias",
    ],
    subclassed: [
        "offset",
        *[f"{block}/{name}" for block in ("block", "block_1", "last")
          for name in ("variable", "variable_1", "calls", "dense/kernel", "dense/bias")],
        "dense/kernel", "dense/bias", "dense_1/kernel",
    ],
}  # fmt: skip


@pytest.mark.parametrize("build", NAMES, ids=lambda build: build.__name__)
def test_names_and_order_are_the_same_whatever_was_built_before(build: Callable[[], Any]) -> None:
    for _ in range(3):
        assert names(build()) == NAMES[build]
    keras.backend.clear_session()
    assert names(build()) == NAMES[build]


def test_names_given_by_hand_stay_and_counting_makes_way_for_them() -> None:
    class Small(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.parts = [K.Dense(1), K.Dense(1), Block(name="dense_1"), K.Dense(1, name="encoder_2")]
            self.twins = [K.Dense(1, name="twin"), K.Dense(1, name="twin")]

        def call(self, inputs: Any) -> Any:
            return sum(part(inputs) for part in self.parts + self.twins)

    model = Small()
    model(X)
    kernels = [name for name in names(model) if name.endswith("kernel")]
    assert kernels == [
        "dense/kernel", "dense_2/kernel", "dense_1/dense/kernel", "encoder_2/kernel", "twin/kernel",
        "twin_1/kernel",
    ]  # fmt: skip


def test_what_is_used_in_two_places_travels_once() -> None:
    class Turned(K.Layer):
        def __init__(self, source: Any) -> None:
            super().__init__()
            self.kernel = source.kernel

        def call(self, inputs: Any) -> Any:
            return keras.ops.matmul(inputs, keras.ops.transpose(self.kernel))

    class Tied(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.first = keras.Sequential([keras.Input((3,)), K.Dense(2)])
            self.last = Turned(self.first.layers[0])
            self.again = keras.Sequential([self.first])

        def call(self, inputs: Any) -> Any:
            return self.last(self.again(inputs))

    model = Tied()
    model(X)
    assert names(model) == ["sequential/dense/kernel", "sequential/dense/bias"]


def test_only_the_model_travels() -> None:
    model = functional()
    model.compile("adam", "mse", metrics=["mae"])
    model.fit([np.ones((4, 5, 3))] * 2, np.ones((4, 1)), verbose=0)
    assert names(model) == NAMES[functional]


def test_moving_statistics_of_layers_that_are_not_frozen_travel() -> None:
    def build() -> Any:
        return keras.Sequential(
            [keras.Input((3,)), K.BatchNormalization(), K.BatchNormalization(trainable=False)]
        )

    model = build()
    model.compile("sgd", "mse")
    model.fit(X + 5, X, verbose=0)
    dumped = KerasHelper().dump(model)
    assert list(dumped) == [f"batch_normalization/{name}" for name in STATISTICS]
    assert dumped["batch_normalization/moving_mean"].min() > 0
    again = KerasHelper().load(dumped, app(build))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(again(X)), keras.ops.convert_to_numpy(model(X)))


class Unused(Subclassed):
    def __init__(self) -> None:
        super().__init__()
        self.spare = K.Dense(3)


def frozen_base() -> Any:
    base = keras.Sequential(
        [keras.Input((3,)), K.Dense(4, kernel_initializer="ones"), K.Dense(4, name="top")]
    )
    base.trainable = False
    return keras.Sequential([keras.Input((3,)), base, K.Dense(1)])


def half_frozen_base() -> Any:
    model = frozen_base()
    model.layers[0].get_layer("top").trainable = True
    return model


def with_a_frozen_layer_that_is_never_built() -> Any:
    model = Unused()
    model.spare.trainable = False
    model(X)
    return model


def with_lora() -> Any:
    model = sequential()
    model.layers[0].enable_lora(2)
    model.layers[1].trainable = model.layers[2].trainable = False
    return model


@pytest.mark.filterwarnings("ignore:.build... was called on layer 'unused:UserWarning")
@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (frozen_base, ["dense/kernel", "dense/bias"]),
        (half_frozen_base, ["sequential/top/kernel", "sequential/top/bias", "dense/kernel", "dense/bias"]),
        (with_a_frozen_layer_that_is_never_built, NAMES[subclassed]),
        (with_lora, ["dense/bias", "dense/lora_kernel_a", "dense/lora_kernel_b"]),
    ],
)
def test_what_is_frozen_stays_at_home(build: Callable[[], Any], expected: list[str]) -> None:
    assert names(build()) == expected
    tensors = {name: array + 1 for name, array in KerasHelper().dump(build()).items()}
    again = KerasHelper().dump(KerasHelper().load(tensors, app(build)))
    assert all(np.array_equal(again[name], tensors[name]) for name in expected)


def test_a_frozen_layer_is_as_build_made_it() -> None:
    model = KerasHelper().load(KerasHelper().dump(frozen_base()), app(frozen_base))
    kernel = keras.ops.convert_to_numpy(model.layers[0].layers[0].kernel)
    assert kernel.tolist() == np.ones((3, 4)).tolist()


@pytest.mark.parametrize(
    ("policy", "word"),
    [
        ("bfloat16", "BF16"),
        ("float16", "F16"),
        ("mixed_bfloat16", "F32"),
        ("mixed_float16", "F32"),
        ("float64", "F64"),
    ],
)
def test_a_dtype_is_kept_from_seed_to_update(policy: str, word: str) -> None:
    def build() -> Any:
        layers = [K.Dense(4, dtype=policy), K.BatchNormalization(dtype=policy), K.Dense(1, dtype=policy)]
        return keras.Sequential([keras.Input((3,)), *layers])

    model = build()
    base = memoryview(seed_file(KerasHelper().dump(model)))
    header = json.loads(bytes(base[8 : layout_of(base).data_start]))
    assert {entry["dtype"] for entry in header.values()} == {word}
    again = KerasHelper().load(read_file(base), app(build))
    assert [v.dtype for v in again.variables] == [v.dtype for v in model.variables]
    assert write_update(base, layout_of(base), KerasHelper().dump(again)) == base


def test_whole_numbers_and_booleans_keep_their_dtypes() -> None:
    class Counting(K.Layer):
        def build(self, shape: Any) -> None:
            self.add_weight(shape=(1,), name="w")
            for dtype in ("int8", "int64", "uint8", "bool"):
                self.add_weight(shape=(2,), dtype=dtype, initializer="ones", trainable=False, name=dtype)

    def build() -> Any:
        return keras.Sequential([keras.Input((3,)), Counting()])

    tensors = KerasHelper().dump(build())
    assert {name.rpartition("/")[2]: array.dtype.name for name, array in tensors.items()} == {
        "w": "float32", "int8": "int8", "int64": "int64", "uint8": "uint8", "bool": "bool",
    }  # fmt: skip
    changed = {name: array * 0 if array.dtype != bool else ~array for name, array in tensors.items()}
    again = KerasHelper().dump(KerasHelper().load(changed, app(build)))
    assert all(np.array_equal(again[name], changed[name]) for name in tensors)


def test_a_saved_model_is_one_of_keras(tmp_path: Path) -> None:
    model = frozen_base()
    KerasHelper().save(model, tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))
    with pytest.raises(InvalidInput, match=r"path: 'model.h5' does not end in .keras"):
        KerasHelper().save(model, tmp_path / "model.h5")


def all_frozen() -> Any:
    model = sequential()
    model.trainable = False
    return model


def half_built() -> Any:
    model = Unused()
    model(X)
    return model


@pytest.mark.filterwarnings("ignore:.build... was called on layer 'unused:UserWarning")
@pytest.mark.parametrize(
    ("build", "problem"),
    [
        (
            lambda: keras.Sequential([K.Dense(1)]),
            "was never built and has no weights yet — start it with keras.Input",
        ),
        (Subclassed, "has layer 'block' that has no weights yet — .* or call the model on an example"),
        (half_built, "has layer 'dense_2' that has no weights yet"),
        (all_frozen, "has nothing to train: every layer is frozen"),
        (lambda: keras.Sequential([keras.Input((3,)), K.Dense(1)], trainable=False), "has nothing to train"),
        (lambda: K.Dense(1), "gave a Dense, not a keras.Model"),
        (lambda: None, "gave a NoneType, not a keras.Model"),
    ],
)
def test_a_model_without_weights_says_what_to_do(build: Callable[[], Any], problem: str) -> None:
    with pytest.raises(InvalidModel, match=f"^model: {problem}"):
        KerasHelper().dump(build())
    with pytest.raises(InvalidModel, match=rf"^app.build\(\): {problem}"):
        KerasHelper().load({}, app(build))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"head/bias": np.zeros(3, np.float32)}, r"'head/bias': has shape \[3\], .*build\(\) has \[2\]"),
        ({"head/bias": np.zeros(2, np.int64)}, r"'head/bias': has dtype int64, .*build\(\) has float32"),
        (
            {"dense_1/bias": None},
            r"'dense_1/bias': is in the model of app.build\(\), but not in the model that",
        ),
        (
            {"dense_2/bias": np.zeros(1)},
            r"'dense_2/bias': is not in the model of app.build\(\), or frozen there",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(change: dict[str, Any], problem: str) -> None:
    tensors = KerasHelper().dump(sequential()) | change
    with pytest.raises(InvalidModel, match=problem):
        KerasHelper().load({k: v for k, v in tensors.items() if v is not None}, app(sequential))


def predictions(model: Any) -> np.ndarray:
    return np.asarray(model.predict([np.ones((2, 5, 3)), np.zeros((2, 5, 3))], verbose=0))


if FROM_ELSEWHERE in os.environ:

    def test_a_model_of_another_backend_predicts_the_same() -> None:
        folder = Path(os.environ[FROM_ELSEWHERE])
        model = KerasHelper().load(read_file(memoryview((folder / "seed").read_bytes())), app(functional))
        np.testing.assert_allclose(predictions(model), np.load(folder / "expected.npy"), atol=1e-5)

else:

    @pytest.mark.timeout(600)
    def test_everything_holds_on_pytorch_too(tmp_path: Path) -> None:
        """The tests of Keras in a process of their own: a process has one backend."""
        pytest.importorskip("torch", reason="needs the extra 'torch'")
        model = functional()
        (tmp_path / "seed").write_bytes(seed_file(KerasHelper().dump(model)))
        np.save(tmp_path / "expected.npy", predictions(model))
        tests = [__file__, Path(__file__).with_name("test_proximal_keras.py")]
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
            env=os.environ | {"KERAS_BACKEND": "torch", FROM_ELSEWHERE: str(tmp_path)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-2000:]
        assert re.search(r"\b[1-9]\d+ passed", run.stdout)


class TestKerasContract(ProximalHelperContract):
    @pytest.fixture
    def helper(self) -> KerasHelper:
        return KerasHelper()

    @pytest.fixture
    def build(self) -> Callable[..., Any]:
        def build(freeze: bool = False) -> Any:
            layers = [K.Dense(4), K.BatchNormalization(), K.Dense(4, dtype="bfloat16"), K.Dense(1)]
            model = keras.Sequential([keras.Input((3,)), *layers])
            if freeze:
                model.layers[0].set_weights([np.full((3, 4), 0.3), np.zeros(4)])
                model.layers[0].trainable = False
            # Without graphs, which take longer to compile than to use here: `test_proximal_keras` has them.
            model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
            return model

        return build

    @pytest.fixture
    def app(self, build: Callable[..., Any]) -> SimpleNamespace:
        return app(build)

    @pytest.fixture
    def frozen_app(self, build: Callable[..., Any]) -> SimpleNamespace:
        return app(lambda: build(freeze=True))

    @pytest.fixture
    def train(self) -> Callable[[Any], Any]:
        def train(model: Any) -> Any:
            model.fit(X, Y, batch_size=len(X), shuffle=False, verbose=0)
            return model

        return train

    @pytest.fixture
    def predict(self) -> Callable[[Any], np.ndarray]:
        return lambda model: np.asarray(keras.ops.convert_to_numpy(model(X)), np.float32)
