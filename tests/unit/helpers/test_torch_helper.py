"""Modules through tensors and back: what travels, under which name, with which dtype."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fedn.domain.errors import InvalidModel
from fedn.helpers.files import layout_of, read_file, seed_file, write_update
from fedn.helpers.torch import TorchHelper
from fedn.testing.contracts.helper import ProximalHelperContract

torch = pytest.importorskip("torch", reason="needs the extra 'torch'")
nn = torch.nn
X = torch.linspace(-1, 1, 24).reshape(8, 3)
Y = X.sum(dim=1, keepdim=True)


class Tied(nn.Module):
    """Every kind of thing that a state dict can hold, and one that it doesn't."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("mask", torch.tensor([True, False]))
        self.register_buffer("scratch", torch.zeros(3), persistent=False)
        self.register_buffer("same", self.mask)

    def forward(self, words: Any) -> Any:
        return self.head(self.norm(self.embed(words)))


class Stateful(Tied):
    def get_extra_state(self) -> Any:
        return {"not": "a tensor"}

    def set_extra_state(self, state: Any) -> None: ...


def app(build: Callable[[], Any]) -> SimpleNamespace:
    return SimpleNamespace(build=build)


def dtypes(file: bytes) -> dict[str, str]:
    header = json.loads(file[8 : 8 + int.from_bytes(file[:8], "little")])
    return {name: entry["dtype"] for name, entry in header.items()}


def test_what_travels_is_named_and_ordered_like_the_state_dict() -> None:
    assert list(TorchHelper().dump(Stateful())) == [
        "mask", "embed.weight", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var",
        "norm.num_batches_tracked",
    ]  # fmt: skip


def test_tied_tensors_stay_tied() -> None:
    tensors = TorchHelper().dump(Tied())
    model = TorchHelper().load(tensors | {"embed.weight": np.full((5, 4), 2, np.float32)}, app(Tied))
    assert model.head.weight is model.embed.weight
    assert model.head.weight.unique().tolist() == [2.0]


def test_buffers_keep_their_dtypes_and_values() -> None:
    model = Tied()
    model(torch.tensor([0, 1, 2]))
    dumped = TorchHelper().dump(model)
    assert (dumped["norm.num_batches_tracked"].dtype, dumped["norm.num_batches_tracked"].shape) == (
        np.int64,
        (),
    )
    assert dumped["norm.num_batches_tracked"] == 1
    assert dumped["mask"].tolist() == [True, False]
    assert np.abs(dumped["norm.running_mean"]).max() > 0
    again = TorchHelper().load(dumped, app(Tied))
    for name, buffer in model.named_buffers():
        assert torch.equal(dict(again.named_buffers())[name], buffer), name


def test_frozen_parameters_stay_at_home_and_their_running_means_travel() -> None:
    def build() -> Any:
        model = Tied()
        model.embed.requires_grad_(False)
        model.norm.requires_grad_(False)
        model.extra = nn.Linear(1, 1)
        with torch.no_grad():
            model.norm.weight.fill_(7)
        return model

    names = ["mask", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked"]
    dumped = TorchHelper().dump(build())
    assert list(dumped) == [*names, "extra.weight", "extra.bias"]
    assert TorchHelper().load(dumped, app(build)).norm.weight.tolist() == [7] * 4


@pytest.mark.parametrize(("dtype", "word"), [("bfloat16", "BF16"), ("float16", "F16"), ("float64", "F64")])
def test_a_float_dtype_is_kept_from_seed_to_update(dtype: str, word: str) -> None:
    def build() -> Any:
        return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).to(getattr(torch, dtype))

    model = build()
    file = seed_file(TorchHelper().dump(model))
    assert dtypes(file).pop("1.num_batches_tracked") == "I64"
    assert {found for name, found in dtypes(file).items() if name != "1.num_batches_tracked"} == {word}
    base = memoryview(file)
    again = TorchHelper().load(read_file(base), app(build))
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), again.parameters(), strict=True))
    assert again[0].weight.dtype == getattr(torch, dtype)
    assert write_update(base, layout_of(base), TorchHelper().dump(again)) == base


def test_a_model_may_train_in_another_float_width_than_the_session_has() -> None:
    file = memoryview(seed_file(TorchHelper().dump(nn.Linear(3, 2))))
    model = TorchHelper().load(read_file(file), app(lambda: nn.Linear(3, 2).bfloat16()))
    assert dtypes(write_update(file, layout_of(file), TorchHelper().dump(model))) == {
        "weight": "F32",
        "bias": "F32",
    }


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch.compile's own
def test_wrappers_leave_no_trace_in_the_names() -> None:
    plain = nn.Linear(3, 2)
    for wrapped in (torch.compile(plain), nn.DataParallel(plain), torch.compile(nn.DataParallel(plain))):
        assert list(TorchHelper().dump(wrapped)) == ["weight", "bias"]


def test_memory_layout_is_no_matter() -> None:
    model = nn.Conv2d(3, 4, 2).to(memory_format=torch.channels_last)
    dumped = TorchHelper().dump(model)
    again = TorchHelper().load(dumped, app(lambda: nn.Conv2d(3, 4, 2)))
    assert torch.equal(again.weight, model.weight)


def test_a_recurrent_net_predicts_the_same() -> None:
    model = nn.LSTM(3, 4, num_layers=2, bidirectional=True)
    again = TorchHelper().load(
        TorchHelper().dump(model), app(lambda: nn.LSTM(3, 4, num_layers=2, bidirectional=True))
    )
    assert torch.equal(again(X)[0], model(X)[0])


def test_a_saved_model_is_whole(tmp_path: Path) -> None:
    from safetensors.torch import load_model

    model, other = Tied(), Tied()
    model.embed.requires_grad_(False)
    TorchHelper().save(model, tmp_path / "model.safetensors")
    assert load_model(other, tmp_path / "model.safetensors", strict=False) == (set(), [])
    assert torch.equal(other.head.weight, model.embed.weight)
    assert torch.equal(other.norm.running_mean, model.norm.running_mean)


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (nn.Linear(3, 2).requires_grad_(False), "model: has nothing to train — leave at least one"),
        (nn.ReLU(), "model: has nothing to train"),
        (nn.LazyLinear(3), "model: has a parameter 'weight' without a shape yet — call the module"),
        (nn.Linear(3, 2, device="meta"), "tensor 'weight': is a tensor of torch.float32 that can't become"),
        (nn.Linear(3, 2, dtype=torch.complex64), "tensor 'weight': has dtype complex64"),
        ({"weight": X}, "model: gave a dict, not a torch.nn.Module"),
    ],
)  # fmt: skip
def test_what_can_not_be_dumped_says_what_to_do(model: Any, problem: str) -> None:
    with pytest.raises(InvalidModel, match=problem):
        TorchHelper().dump(model)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"weight": np.zeros((3, 2), np.float32)}, r"'weight': has shape \[3, 2\], .*build\(\) has \[2, 3\]"),
        ({"weight": np.zeros((2, 3), np.int64)}, r"'weight': has dtype int64, .*build\(\) has float32"),
        ({"bias": None}, r"'bias': is in the model of app.build\(\), but not in the model that is to be"),
        ({"more": np.zeros(1)}, r"'more': is not in the model of app.build\(\), or frozen there"),
    ],
)
def test_tensors_that_do_not_fit_are_named(change: dict[str, Any], problem: str) -> None:
    tensors = TorchHelper().dump(nn.Linear(3, 2)) | change
    with pytest.raises(InvalidModel, match=problem):
        TorchHelper().load({k: v for k, v in tensors.items() if v is not None}, app(lambda: nn.Linear(3, 2)))


class TestTorchContract(ProximalHelperContract):
    @pytest.fixture
    def helper(self) -> TorchHelper:
        return TorchHelper()

    @pytest.fixture(params=["float32", "bfloat16"])
    def dtype(self, request: pytest.FixtureRequest) -> Any:
        return getattr(torch, request.param)

    @pytest.fixture
    def app(self, dtype: Any) -> SimpleNamespace:
        return app(
            lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1)).to(dtype)
        )

    @pytest.fixture
    def frozen_app(self, app: SimpleNamespace) -> SimpleNamespace:
        def build() -> Any:
            model = app.build()
            model[0].requires_grad_(False).weight.fill_(0.3)
            model[0].bias.zero_()
            return model

        return SimpleNamespace(build=build)

    @pytest.fixture
    def train(self, dtype: Any) -> Callable[[Any], Any]:
        def train(model: Any) -> Any:
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            optimizer.zero_grad()
            nn.functional.mse_loss(model.train()(X.to(dtype)), Y.to(dtype)).backward()
            optimizer.step()
            return model

        return train

    @pytest.fixture
    def predict(self, dtype: Any) -> Callable[[Any], np.ndarray]:
        def predict(model: Any) -> np.ndarray:
            with torch.no_grad():
                return model.eval()(X.to(dtype)).float().numpy()

        return predict
