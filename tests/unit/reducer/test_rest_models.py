"""Models over HTTP: up as one body that is refused or kept whole, found, and down again byte for byte."""

from __future__ import annotations

from dataclasses import replace

import pytest
from answers import assert_error

from fedn.config import ReducerSettings
from fedn.domain.errors import LinkBroken
from fedn.domain.round import store_record
from fedn.ports import PackageInfo
from fedn.reducer.rest import create_app


@pytest.fixture
def app(service):
    return create_app(service, ReducerSettings(max_model_bytes=10_000))


@pytest.fixture
def http(app):
    return app.test_client()


def test_a_model_goes_up_and_comes_down_byte_for_byte(http, small):
    data = small.model_file(1.5)
    answer = http.post("/api/v1/models?name=ones", data=data)
    assert answer.status_code == 201
    digest = answer.get_json()["digest"]
    down = http.get(f"/api/v1/models/{digest}")
    assert down.data == data
    assert (down.headers["ETag"], down.content_length) == (f'"{digest}"', len(data))
    head = http.head(f"/api/v1/models/{digest}")
    assert (head.data, head.content_length) == (b"", len(data))
    assert http.get("/api/v1/models").get_json()["models"][0]["name"] == "ones"
    assert http.get(f"/api/v1/models/{digest}/info").get_json()["origin"] == "seed"


def test_who_seeds_a_model_again_is_told_that_it_was_one_already(http, small):
    first = http.post("/api/v1/models?name=ones", data=small.model_file(1.5))
    again = http.post("/api/v1/models?name=more", data=small.model_file(1.5))
    other = http.post("/api/v1/models?name=twos", data=small.model_file(2.5))
    assert [one.get_json()["known"] for one in (first, again, other)] == [False, True, False]
    assert again.status_code == 201
    assert again.get_json()["name"] == "more"


def test_models_of_rounds_are_found_by_a_part_of_their_digest(http, service, small):
    session = small.seeded(service).session
    service.commit(session, 0.5)
    seed, model = (service.state.record(session, number).record.model for number in (0, 1))
    for part in (model[:9], model[-9:], model):
        [found] = http.get(f"/api/v1/models?digest={part}").get_json()["models"]
        assert (found["digest"], found["origin"]) == (model, "")
        assert found["size"] == len(small.model_file(1))
    [found] = http.get(f"/api/v1/models?digest={seed[:9]}").get_json()["models"]
    assert (found["digest"], found["name"]) == (seed, "zeros")
    assert http.get(f"/api/v1/models?digest={'0' * 64}").get_json()["models"] == []
    assert "no part" in assert_error(http.get("/api/v1/models?digest=.."), 400)["error"]


def test_packages_and_what_an_optimizer_remembers_are_not_listed_among_models(http, service, small):
    session = small.seeded(service).session
    service.commit(session, 0.5)
    head = service.state.session(session).head
    memory, _ = service.models.put([b"what it remembers"])
    old = service.state.record(session, 1).record
    added = replace(old, round=2, parent=head.record, optimizer_state=memory)
    service.state.commit_round(store_record(added), service.term)
    package, _ = service.models.put([b"code"])
    service.state.add_package(PackageInfo(package, 4, "code", {}, 1.0))
    for no_model in (memory, package):
        for part in (no_model[:9], no_model[-9:], no_model):
            assert http.get(f"/api/v1/models?digest={part}").get_json()["models"] == []


def test_a_download_resumes(http, small):
    data = small.model_file(1.5)
    digest = http.post("/api/v1/models", data=data).get_json()["digest"]
    path, size = f"/api/v1/models/{digest}", len(data)

    def ranged(value: str, **headers: str):
        return http.get(path, headers={"Range": value, **headers})

    rest = ranged("bytes=10-")
    assert (rest.status_code, rest.data) == (206, data[10:])
    assert rest.headers["Content-Range"] == f"bytes 10-{size - 1}/{size}"
    assert ranged("bytes=3-5").data == data[3:6]
    assert ranged("bytes=-4").data == data[-4:]
    assert ranged("bytes=0-1,4-5").status_code == 200
    assert ranged("lines=1-2").data == data
    assert ranged("bytes=10-", **{"If-Range": '"other"'}).data == data
    assert ranged("bytes=10-", **{"If-Range": f'"{digest}"'}).status_code == 206
    refused = ranged(f"bytes={size}-")
    assert_error(refused, 416)
    assert refused.headers["Content-Range"] == f"bytes */{size}"
    assert http.get(path, headers={"If-None-Match": f'"{digest}"'}).status_code == 304


def test_a_wrong_digest_is_refused_by_name(http):
    assert assert_error(http.get("/api/v1/models/xyz"), 400)["details"]["field"] == "digest"


def test_a_seed_that_is_not_a_model_is_refused_and_its_body_read_to_the_end(app, service):
    assert (
        "safetensors" in assert_error(app.test_client().post("/api/v1/models", data=b"x" * 100), 400)["error"]
    )
    body = _Body(9_000)

    def refuse(chunks, name, size):
        next(chunks)
        raise LinkBroken("the disk is full")

    service.seed_model = refuse
    environ = {"wsgi.input": body, "CONTENT_LENGTH": "9000"}
    assert_error(app.test_client().post("/api/v1/models", environ_overrides=environ), 503, "link_broken")
    assert body.left == 0


def test_a_seed_beyond_the_limit_is_refused_before_it_is_read(http):
    error = assert_error(http.post("/api/v1/models", data=b"x" * 10_001), 413)["error"]
    assert "max_model_bytes" in error


def test_a_seed_needs_its_length(http):
    answer = http.post("/api/v1/models", headers={"Transfer-Encoding": "chunked"})
    assert_error(answer, 411, "length_required")


def test_an_upload_that_breaks_off_says_where(app):
    environ = {"wsgi.input": _Body(100), "CONTENT_LENGTH": "9000"}
    answer = app.test_client().post("/api/v1/models", environ_overrides=environ)
    assert "100 of 9000 bytes" in assert_error(answer, 503, "link_broken")["error"]


class _Body:
    """A request body of ``left`` bytes that then ends."""

    def __init__(self, left: int) -> None:
        self.left = left

    def read(self, size: int = -1) -> bytes:
        taken = self.left if size < 0 else min(size, self.left)
        self.left -= taken
        return b"x" * taken
