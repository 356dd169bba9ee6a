"""Compute packages over HTTP: who may, what is kept, and that of what is refused nothing is."""

from __future__ import annotations

import pytest
from package_files import FILES, archive, member

from fedn.config import ReducerSettings
from fedn.domain.ids import digest_of
from fedn.packages.archive import inspect
from fedn.packages.members import MAX_BYTES
from fedn.reducer.rest import create_app
from fedn.stores.files import FileModels
from fedn.stores.sqlite import SqliteState

PACKAGE = archive()
DIGEST = digest_of(PACKAGE)


@pytest.fixture
def http(service, tmp_path):
    """The REST API over stores on disk."""
    service.state, service.models = SqliteState(tmp_path / "state.db"), FileModels(tmp_path / "models")
    yield create_app(service, ReducerSettings()).test_client()
    service.state.close()


def test_a_package_is_kept_listed_and_fetched(http, service):
    answer = http.post("/api/v1/packages", data=PACKAGE)
    assert answer.status_code == 201
    info = answer.get_json()
    assert (info["digest"], info["size"], info["name"]) == (DIGEST, len(PACKAGE), "mnist-keras")
    assert info["manifest"] == inspect(PACKAGE).manifest.as_dict()
    assert http.get(f"/api/v1/packages/{DIGEST}").get_json() == info
    (listed,) = http.get("/api/v1/packages").get_json()["packages"]
    assert listed == {key: info[key] for key in ("digest", "size", "name", "created_at")} | {
        "description": "Digits."
    }
    assert http.get(f"/api/v1/models/{DIGEST}").data == PACKAGE
    assert http.get(f"/api/v1/models/{DIGEST}", headers={"Range": "bytes=512-"}).data == PACKAGE[512:]
    (event,) = service.hub.recent()
    assert (event.event, event.fields["package"]) == ("package_uploaded", DIGEST)


def test_the_same_package_again_is_the_same_package(http, service):
    first = http.post("/api/v1/packages", data=PACKAGE).get_json()
    second = http.post("/api/v1/packages", data=PACKAGE).get_json()
    assert {**first, "created_at": 0} == {**second, "created_at": 0}
    other = archive({**FILES, "app.py": "# changed"})
    http.post("/api/v1/packages", data=other)
    assert [p["digest"] for p in http.get("/api/v1/packages").get_json()["packages"]] == [
        digest_of(other),
        DIGEST,
    ]
    assert len(http.get("/api/v1/packages?limit=1").get_json()["packages"]) == 1


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "no tar archive"),
        (b"PK\x03\x04" * 200, "no tar archive"),
        (PACKAGE[:-9728], "cut off"),
        (archive({"app.py": ""}), "has no fedn.yaml"),
        (
            archive({**FILES, "fedn.yaml": "name: x\nentry_points: {trian: x}"}),
            "fedn.yaml: entry_points.trian",
        ),
        (archive({**FILES, "../../evil": "x"}), "../../evil: is not a plain path"),
        (archive(FILES, member("link", b"2", linkname="/etc/passwd")), "link: is a link"),
    ],
    ids=["nothing", "zip", "cut", "no manifest", "entry point", "escape", "link"],
)
def test_of_what_is_refused_nothing_is_kept(http, service, tmp_path, body, words):
    length = {"CONTENT_LENGTH": str(len(body))}
    answer = http.post("/api/v1/packages", data=body, environ_overrides=length)
    assert answer.status_code == 400, answer.get_json()
    assert answer.get_json()["code"] == "invalid_input"
    assert words in answer.get_json()["error"]
    assert (
        list(service.models.digests()) == list(service.state.packages()) == list(service.hub.recent()) == []
    )
    assert list((tmp_path / "models").iterdir()) == []


def test_a_refused_package_takes_no_model_along(http, service, small):
    """Bytes that are here as a model already stay, though they are no package."""
    model = small.model_file()
    service.models.put([model])
    assert http.post("/api/v1/packages", data=model).status_code == 400
    assert list(service.models.digests()) == [digest_of(model)]


def test_a_package_has_a_largest_size(http):
    answer = http.post("/api/v1/packages", environ_overrides={"CONTENT_LENGTH": str(MAX_BYTES + 1)})
    assert (answer.status_code, answer.get_json()["code"]) == (413, "too_large")
    answer = http.post("/api/v1/packages", headers={"Transfer-Encoding": "chunked"})
    assert (answer.status_code, answer.get_json()["code"]) == (411, "length_required")


def test_an_upload_that_breaks_off_leaves_nothing(http, service):
    answer = http.post("/api/v1/packages", data=PACKAGE, environ_overrides={"CONTENT_LENGTH": "20000"})
    assert (answer.status_code, answer.get_json()["code"]) == (503, "link_broken")
    assert list(service.models.digests()) == []


def test_what_is_not_there_is_not_found(http, service, small):
    model, _ = service.models.put([small.model_file()])
    for digest in ("0" * 64, model):
        assert http.get(f"/api/v1/packages/{digest}").status_code == 404
    assert http.get("/api/v1/packages/nonsense").status_code == 400


def test_who_uploaded_what_is_in_the_audit_log(net, beside):
    helper, app = beside("small_network"), net.app().test_client()
    headers = dict(helper.bearer(net.token("operator", name="olga")))
    assert app.post("/api/v1/packages", data=PACKAGE, headers=headers).status_code == 201
    (entry,) = net.audit("package_uploaded")
    assert (entry.actor, entry.subject) == ("operator:olga", DIGEST)
    assert entry.details["name"] == "mnist-keras"
    viewer = dict(helper.bearer(net.token("viewer")))
    assert app.post("/api/v1/packages", data=PACKAGE, headers=viewer).status_code == 403
    assert app.get(f"/api/v1/packages/{DIGEST}", headers=viewer).status_code == 200
    combiner = helper.shown(net.join("combiner", "c1"))
    assert app.get(f"/api/v1/models/{DIGEST}", environ_overrides=dict(combiner)).data == PACKAGE


# --- what is in one --------------------------------------------------------------------------------


def test_the_files_of_a_package_are_listed_and_their_text_is_shown(http, service, small):
    http.post("/api/v1/packages", data=PACKAGE)
    listed = http.get(f"/api/v1/packages/{DIGEST}/files").get_json()["files"]
    assert {one["path"]: one["size"] for one in listed} == {
        path: len(text.encode()) for path, text in FILES.items()
    }
    answer = http.get(f"/api/v1/packages/{DIGEST}/files/app.py")
    assert answer.get_data(as_text=True) == FILES["app.py"]
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert http.get(f"/api/v1/packages/{DIGEST}/files/tools/prepare.sh").status_code == 200
    assert http.get(f"/api/v1/packages/{DIGEST}/info").get_json()["sessions"] == []
    session = small.seeded(service, package=DIGEST)
    small.seeded(service)
    (one,) = http.get(f"/api/v1/packages/{DIGEST}/info").get_json()["sessions"]
    assert (one["session"], one["name"], one["state"]) == (session.session, "digits", "running")


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("tools", 404, "has no file"),
        ("..%2f..%2fetc%2fpasswd", 404, "has no file"),
        ("data.bin", 400, "data.bin: is binary"),
        ("latin.txt", 400, "latin.txt: is not text in UTF-8"),
        ("long.txt", 400, "long.txt: has 262145 bytes"),
        ("wide.txt", 200, ""),
    ],
)
def test_what_is_no_text_is_not_shown(http, path, status, words):
    more = {
        "data.bin": b"PK\0\1",
        "latin.txt": b"caf\xe9",
        "long.txt": "x" * (2**18 + 1),
        "wide.txt": "x" * 2**18,
    }
    digest = http.post("/api/v1/packages", data=archive({**FILES, **more})).get_json()["digest"]
    answer = http.get(f"/api/v1/packages/{digest}/files/{path}")
    assert answer.status_code == status
    assert status == 200 or words in answer.get_json()["error"]


def test_a_blob_that_is_no_package_has_no_files(http, service, small):
    model, _ = service.models.put([small.model_file()])
    assert http.get(f"/api/v1/packages/{model}/files").status_code == 404
    assert http.get(f"/api/v1/packages/{model}/files/app.py").status_code == 404
