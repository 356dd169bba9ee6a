"""Looking into models over HTTP: tensors, a check before the seed, comparison, other forms, lineage."""

from __future__ import annotations

import io
import pickle
import zipfile

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save

from fedn.config import ReducerSettings
from fedn.domain.errors import Busy
from fedn.domain.ids import digest_of
from fedn.domain.model import layout_of
from fedn.domain.plan import Plan
from fedn.helpers.files import seed_file
from fedn.reducer.rest import create_app
from fedn.reducer.spooling import Few
from fedn.stores.files import FileModels

TENSORS = {
    "dense/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "half": np.full(3, 0.5, np.float16),
    "brain": np.arange(5).astype(ml_dtypes.bfloat16),
    "steps": np.array(7, np.int64),
    "mask": np.array([True, False]),
    "nothing": np.zeros((0, 4), np.float64),
}
FILE = seed_file(TENSORS)
DIGEST = digest_of(FILE)


@pytest.fixture
def http(service, tmp_path):
    """The REST API over models on disk."""
    service.models = FileModels(tmp_path / "models")
    return create_app(service, ReducerSettings(max_model_bytes=10_000)).test_client()


def numpy_zip() -> bytes:
    made = io.BytesIO()
    np.savez(made, w=np.zeros(3))
    return made.getvalue()


def torch_zip() -> bytes:
    """As torch.save() writes it: the pickle first."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
    return made.getvalue()


# --- tensors ---------------------------------------------------------------------------------------


def test_the_tensors_are_read_from_the_header_in_pages(http, service):
    service.models.put([FILE])
    whole = http.get(f"/api/v1/models/{DIGEST}/tensors").get_json()
    layout = layout_of(FILE)
    assert whole["contents"] == {
        "size": len(FILE), "layout": layout.digest, "count": 6, "parameters": 17, "averaged": 14,
        "bytes": layout.data_bytes, "dtypes": {"F32": 6, "F16": 3, "BF16": 5, "I64": 1, "BOOL": 2, "F64": 0},
    }  # fmt: skip
    assert [one["name"] for one in whole["tensors"]] == [spec.name for spec in layout.tensors]
    assert whole["next"] is None
    (kernel,) = (one for one in whole["tensors"] if one["name"] == "dense/kernel")
    assert (kernel["shape"], kernel["dtype"], kernel["parameters"], kernel["bytes"]) == ([2, 3], "F32", 6, 24)
    first = http.get(f"/api/v1/models/{DIGEST}/tensors?limit=4").get_json()
    rest = http.get(f"/api/v1/models/{DIGEST}/tensors?limit=4&after={first['next']}").get_json()
    assert first["tensors"] + rest["tensors"] == whole["tensors"]
    assert rest["next"] is None


def test_no_more_than_the_header_is_read(http, service):
    file = save({"w": np.zeros(2**20, np.float32)})
    digest, _ = service.models.put([file])
    taken = []
    read = service.models.read

    def counted(*args):
        for chunk in read(*args):
            taken.append(len(chunk))
            yield chunk

    service.models.read = counted
    assert http.get(f"/api/v1/models/{digest}/tensors").get_json()["contents"]["parameters"] == 2**20
    assert sum(taken) <= 2**20 < len(file)


def test_what_is_stored_and_no_model_is_named(http, service):
    digest, _ = service.models.put([b"\0" * 257 + b"ustar" + b"\0" * 762])
    for path in ("tensors", f"compare/{digest}"):
        answer = http.get(f"/api/v1/models/{digest}/{path}")
        assert (answer.status_code, answer.get_json()["code"]) == (400, "invalid_model")
        assert "is a tar archive" in answer.get_json()["error"]


# --- a check before the seed -----------------------------------------------------------------------


def test_a_file_is_described_and_not_kept(http, service):
    told = http.post("/api/v1/models/check", data=FILE).get_json()
    assert (told["digest"], told["known"], told["name"]) == (DIGEST, False, "")
    assert told["contents"]["averaged"] == 14
    assert len(told["tensors"]) == 6
    assert list(service.models.digests()) == list(service.state.models()) == list(service.hub.recent()) == []
    http.post("/api/v1/models?name=mine", data=FILE)
    told = http.post("/api/v1/models/check", data=FILE).get_json()
    assert (told["known"], told["name"]) == (True, "mine")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "is empty"),
        (FILE[:-1], "is truncated"),
        (FILE[:40], "ends inside its header"),
        (pickle.dumps({"w": [0.0] * 40}), "is a pickle"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "is HDF5, such as Keras' .h5"),
        (numpy_zip(), "is a zip archive of arrays, numpy's .npz"),
        (torch_zip(), "is a zip archive that torch.save() wrote"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "is an image (PNG)"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"no model at all, just words", "is not safetensors"),
        (save({"w": np.array([np.nan], np.float32)}), "holds NaN"),
        (save({"n": np.array([1])}), "no floating-point tensor"),
    ],
    ids=["empty", "cut", "header", "pickle", "hdf5", "npz", "torch", "png", "html", "words", "nan", "int"],
)
def test_a_wrong_file_is_called_what_it_is(http, service, body, words):
    length = {"CONTENT_LENGTH": str(len(body))}
    answer = http.post("/api/v1/models/check", data=body, environ_overrides=length)
    assert (answer.status_code, answer.get_json()["code"]) == (400, "invalid_model")
    assert words in answer.get_json()["error"]
    assert answer.get_json()["details"]["remedy"]
    assert list(service.models.digests()) == []


def test_a_file_beyond_the_limit_is_not_even_read(http):
    answer = http.post("/api/v1/models/check", data=bytes(10_001))
    assert (answer.status_code, answer.get_json()["code"]) == (413, "too_large")
    assert "max_model_bytes" in answer.get_json()["error"]


# --- two models ------------------------------------------------------------------------------------


def test_two_models_are_compared_tensor_by_tensor(http, service):
    other = TENSORS | {"dense/kernel": TENSORS["dense/kernel"] + 1, "half": np.zeros(4, np.float16)}
    other["new"] = other.pop("steps").astype(np.float64)
    second, _ = service.models.put([seed_file(other)])
    service.models.put([FILE])
    told = http.get(f"/api/v1/models/{DIGEST}/compare/{second}").get_json()
    by_name = {one["name"]: one["distance"] for one in told["tensors"]}
    assert by_name["dense/kernel"] == pytest.approx(
        {"l2": 6**0.5, "relative": (6 / 55) ** 0.5, "largest": 1.0, "parameters": 6}
    )
    assert by_name["brain"] == {"l2": 0.0, "relative": 0.0, "largest": 0.0, "parameters": 5}
    assert set(by_name) == {"dense/kernel", "brain", "mask", "nothing"}
    assert told["unlike"] == [{"name": "half", "shape": [3], "other_shape": [4]}]
    assert (told["only_first"], told["only_second"]) == (["steps"], ["new"])
    assert (told["same_layout"], told["left_out"]) == (False, 0)
    assert told["total"]["l2"] == pytest.approx(6**0.5)
    assert (told["total"]["parameters"], told["uncounted"]) == (11, 1)  # the mask is not averaged
    cut = http.get(f"/api/v1/models/{DIGEST}/compare/{second}?limit=1").get_json()
    assert [one["name"] for one in cut["tensors"]] == ["dense/kernel"]
    assert (cut["left_out"], cut["total"]) == (3, told["total"])


def test_what_is_not_averaged_is_compared_and_left_out_of_the_total(http, service):
    """Class labels would drown what was learned."""
    first = {"w": np.full(4, 2.0, np.float32), "labels": np.arange(1000), "was": np.ones(2, np.int32)}
    second = first | {"w": np.full(4, 3.0, np.float32), "labels": np.zeros(1000, int), "was": np.zeros(2)}
    mine, other = (service.models.put([seed_file(one)])[0] for one in (first, second))
    told = http.get(f"/api/v1/models/{mine}/compare/{other}").get_json()
    assert told["total"] == {"l2": 2.0, "relative": 0.5, "largest": 1.0, "parameters": 4}
    assert told["uncounted"] == 2
    page = http.get(f"/models/{mine}/compare/{other}").get_data(as_text=True)
    assert "2 tensors of whole numbers or truth values are not averaged, and not counted above." in page
    assert {one["name"] for one in told["tensors"]} == {"w", "labels", "was"}


# --- other forms -----------------------------------------------------------------------------------


def test_as_npz_it_is_what_numpy_reads_without_pickle(http, service):
    service.models.put([FILE])
    answer = http.get(f"/api/v1/models/{DIGEST}?format=npz")
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{DIGEST[:12]}.npz"'
    with np.load(io.BytesIO(answer.data), allow_pickle=False) as arrays:
        assert set(arrays) == set(TENSORS)
        for name, value in TENSORS.items():
            wanted = value.astype(np.float32) if name == "brain" else value
            assert (arrays[name].dtype, arrays[name].shape) == (wanted.dtype, wanted.shape)
            assert np.array_equal(arrays[name], wanted)


def test_as_a_state_dict_it_is_what_torch_reads_without_pickle(http, service):
    torch = pytest.importorskip("torch")
    service.models.put([FILE])
    answer = http.get(f"/api/v1/models/{DIGEST}?format=torch")
    tensors = torch.load(io.BytesIO(answer.data), weights_only=True)
    assert set(tensors) == set(TENSORS)
    assert tensors["brain"].dtype is torch.bfloat16
    for name, value in TENSORS.items():
        read = tensors[name].float().numpy()
        assert read.shape == value.shape
        assert np.array_equal(read, value.astype(np.float32))
    assert len(answer.data) < 20_000  # each tensor for itself, not the file six times


def test_what_can_not_be_had_says_why(http, service):
    service.models.put([FILE])
    answer = http.get(f"/api/v1/models/{DIGEST}?format=keras")
    assert answer.status_code == 400
    assert "architecture" in answer.get_json()["error"]
    assert "load_into" in answer.get_json()["error"]
    assert http.get(f"/api/v1/models/{DIGEST}?format=exe").status_code == 400
    told = {one["format"]: one for one in http.get("/api/v1/models/formats").get_json()["formats"]}
    assert list(told) == ["safetensors", "npz", "torch", "keras"]
    assert (told["npz"]["reason"], told["safetensors"]["reason"]) == ("", "")
    assert "architecture" in told["keras"]["reason"]


# --- where a model is from -------------------------------------------------------------------------


def test_a_model_knows_its_round_what_began_with_it_and_what_came_before(http, service, small):
    first = small.seeded(service)
    for _ in range(3):
        service.commit(first.session, 0.5)
    made = service.state.record(first.session, 2).record.model
    second = service.start_session("onwards", made, Plan())
    service.commit(second.session, 0.5)
    head = service.state.session(second.session).head.model

    def lineage(digest):
        return http.get(f"/api/v1/models/{digest}/lineage").get_json()

    seed = lineage(first.head.model)
    assert (seed["name"], seed["made"], seed["ancestors"]) == ("zeros", [], [])
    assert [one["session"] for one in seed["begun"]] == [first.session]
    middle = lineage(made)
    assert [(one["session"], one["round"]) for one in middle["made"]] == [(first.session, 2)]
    assert [one["name"] for one in middle["begun"]] == ["onwards"]
    # Round 1 of both sessions commits the same bytes, so that head is round 1 of the first one, too.
    assert [(one["session"], one["round"]) for one in lineage(head)["made"]] == [
        (second.session, 1), (first.session, 1),
    ]  # fmt: skip
    ancestors = [(one["session"], one["round"], one["seed"], one["seed_name"])
                 for one in lineage(head)["ancestors"]]  # fmt: skip
    assert ancestors == [(second.session, 1, made, ""), (first.session, 2, first.head.model, "zeros")]
    assert lineage(head)["complete"]


def test_a_search_that_was_cut_short_says_so(http, service, small, monkeypatch):
    first = small.seeded(service)
    for _ in range(3):
        service.commit(first.session, 0.5)
    made = service.state.record(first.session, 1).record.model
    monkeypatch.setattr("fedn.reducer.lineage.PAGE", 1)
    monkeypatch.setattr("fedn.reducer.lineage.MOST_RECORDS", 2)
    told = http.get(f"/api/v1/models/{made}/lineage").get_json()
    assert (told["made"], told["complete"]) == ([], False)


def test_a_third_at_once_is_told_to_try_again():
    few = Few(2, "checks of models")
    with few.one():
        with few.one(), pytest.raises(Busy, match="2 checks of models are under way"), few.one():
            pass
        with few.one():  # the second has ended
            pass
