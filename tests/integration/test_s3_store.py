"""The model store in S3 against a real Swift: the port's promises, and what they are worth when it breaks."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import pytest

pytest.importorskip("swift")

from minio.error import S3Error
from proxy import Proxy
from s3_places import Certificates, Places, with_keys
from swift_s3 import GUEST_KEY, Swift

import fedn.stores.s3 as s3
import fedn.stores.s3_client as s3_client
from fedn.domain.errors import Damaged, InvalidConfig, NotFound, StoreUnavailable
from fedn.domain.ids import Digest, digest_of
from fedn.stores.s3 import PART_BYTES, S3Models
from fedn.stores.s3_url import place_from
from fedn.testing.contracts.model_store import ModelStoreContract, pieces, whole

ROOT = Path(s3.__file__).parents[2]
LARGE = random.Random(1).randbytes(3 * PART_BYTES + 17)


@pytest.fixture(scope="module")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swift]:
    with Swift(tmp_path_factory.mktemp("swift")) as running:
        yield running


@pytest.fixture
def places(swift: Swift, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Places]:
    with_keys(monkeypatch)
    made = Places(swift.url, tmp_path / "cache")
    yield made
    made.close()


class TestS3Models(ModelStoreContract):
    @pytest.fixture
    def store(self, places: Places) -> S3Models:
        return places.open()

    @pytest.fixture(autouse=True)
    def _at(self, places: Places) -> None:
        self.places = places

    def spoil(self, store: S3Models, digest: Digest, blob: bytes) -> None:
        self.places.spoil(digest, blob)


def test_a_large_blob_goes_up_in_parts_and_comes_back(places: Places):
    writer, reader = places.open(), places.open()
    digest, size = writer.put(pieces(LARGE, 2**20))
    assert (digest, size) == (digest_of(LARGE), len(LARGE))
    assert whole(reader, digest) == LARGE
    assert whole(reader, digest, PART_BYTES + 1) == LARGE[PART_BYTES + 1 :]
    with reader.map(digest) as view:
        assert view == LARGE
    assert list(places.folder.iterdir()) == []  # what lies there has no name
    assert reader.put([LARGE]) == (digest, size)
    assert whole(writer, digest) == LARGE


@pytest.mark.parametrize("size", [10, len(LARGE)])
def test_the_service_itself_lets_no_blob_be_written_twice(places: Places, size: int):
    digest, _ = places.open().put([LARGE[:size]])
    with pytest.raises(S3Error) as caught:
        places.client().put_object(
            bucket_name="models", object_name=places.key(digest), data=BytesIO(bytes(size)), length=size,
            part_size=PART_BYTES,
        )  # fmt: skip
    assert caught.value.code == "PreconditionFailed"
    assert whole(places.open(), digest) == LARGE[:size]


class NoConditions(BaseHTTPRequestHandler):
    """Hands on to a service, and says of If-None-Match what one says that does not know it."""

    behind = ""
    refused = 0

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "If-None-Match" in self.headers:
            type(self).refused += 1
            status, kind, told = 501, "application/xml", b"<Error><Code>NotImplemented</Code></Error>"
        else:
            service = HTTPConnection(self.behind)
            service.request(self.command, self.path, body, dict(self.headers))
            answer = service.getresponse()
            status, kind, told = answer.status, answer.headers["Content-Type"], answer.read()
            service.close()
        self.send_response(status)
        self.send_header("Content-Type", kind or "")
        self.send_header("Content-Length", str(len(told)))
        for name in ("ETag", "Last-Modified") if status < 300 and self.command != "DELETE" else ():
            self.send_header(name, answer.headers.get(name) or "")
        self.end_headers()
        self.wfile.write(told)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 — as they are called


@pytest.mark.parametrize("size", [10, len(LARGE)])
def test_a_service_that_refuses_the_condition_is_written_to_without(places: Places, size: int):
    handler = type("Handler", (NoConditions,), {"behind": places.endpoint.partition("://")[2]})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as front:
        thread = threading.Thread(target=front.serve_forever)
        thread.start()
        try:
            store = places.open(endpoint=f"http://127.0.0.1:{front.server_port}")
            digest, _ = store.put([LARGE[:size]])
            store.put([b"another"])
        finally:
            front.shutdown()
            thread.join()
    assert handler.refused == 1
    assert whole(places.open(), digest) == LARGE[:size]


# --- who may, and where ----------------------------------------------------------------------------


def test_a_wrong_secret_is_said_in_words_and_not_repeated(places: Places, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FEDN_S3_SECRET_KEY", "not-the-secret")
    with pytest.raises(InvalidConfig, match="the secret key does not belong to this access key") as caught:
        places.open()
    assert "not-the-secret" not in str(caught.value)
    monkeypatch.setenv("FEDN_S3_ACCESS_KEY", "nobody:here")
    with pytest.raises(InvalidConfig, match="FEDN_S3_ACCESS_KEY"):
        places.open()


def test_a_key_without_rights_learns_which_it_needs(places: Places, monkeypatch: pytest.MonkeyPatch):
    digest, _ = places.open().put([b"abc"])
    monkeypatch.setenv("FEDN_S3_ACCESS_KEY", GUEST_KEY)
    for bucket in ("models", "not-there-yet"):
        with pytest.raises(InvalidConfig, match=rf"AccessDenied.* s3:ListBucket on bucket {bucket}"):
            places.open(bucket)
    monkeypatch.setattr(s3, "open_bucket", lambda *_: None)
    guest = places.open()
    for asked, right in (
        (lambda: guest.put([b"xyz"]), "s3:GetObject"), (lambda: guest.delete(digest), "s3:DeleteObject"),
        (lambda: list(guest.digests()), "s3:ListBucket"), (lambda: list(guest.read(digest)), "s3:GetObject"),
    ):  # fmt: skip
        with pytest.raises(StoreUnavailable, match=f"AccessDenied.*{right}"):
            asked()


def test_a_secret_that_stops_being_right_is_a_store_that_does_not_answer(
    places: Places, monkeypatch: pytest.MonkeyPatch
):
    digest, _ = places.open().put([b"abc"])
    monkeypatch.setattr(s3, "open_bucket", lambda *_: None)
    monkeypatch.setenv("FEDN_S3_SECRET_KEY", "not-the-secret")
    late = places.open()
    for asked in (lambda: late.put([b"abc"]), lambda: late.delete(digest), lambda: list(late.digests())):
        with pytest.raises(StoreUnavailable, match=r"secret key|s3:GetObject and s3:ListBucket on bucket"):
            asked()


def test_nobody_there_is_a_store_that_does_not_answer(places: Places):
    with pytest.raises(StoreUnavailable, match=r"can't be reached \(Connection refused\)"):
        places.open(endpoint="http://127.0.0.1:1")
    with pytest.raises(StoreUnavailable, match=r"can't be reached \(its name is not known here\)"):
        places.open(endpoint="https://s3.invalid")


def test_read_only_makes_no_bucket_and_writes_nothing(places: Places):
    with pytest.raises(NotFound, match="there is no bucket elsewhere"):
        places.open("elsewhere", read_only=True)
    digest, _ = places.open().put([b"abc"])
    reader = places.open(read_only=True)
    for asked in (lambda: reader.put([b"xyz"]), lambda: reader.delete(digest)):
        with pytest.raises(StoreUnavailable, match="reading only"):
            asked()
    assert list(reader.digests()) == [digest]


def test_what_is_not_ours_is_not_listed(places: Places):
    store, client = places.open(), places.client()
    digest, _ = store.put([b"abc"])
    for name in ("README", digest[:2] + "/README", "00/" + "ff" * 32):
        client.put_object(
            bucket_name="models", object_name=f"{places.prefix}/{name}", data=BytesIO(b"x"), length=1
        )
    assert list(store.digests()) == [digest]


def test_tls_is_verified_by_the_authority_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with_keys(monkeypatch)
    ours = Certificates.made(tmp_path)
    with Swift(tmp_path / "swift", ours.certificate, ours.key, in_memory=True) as swift:
        places = Places(swift.url, tmp_path / "cache")
        digest, _ = places.open(ca=ours.authority).put([b"abc"])
        assert whole(places.open(ca=ours.authority), digest) == b"abc"
        with pytest.raises(InvalidConfig, match="not by an authority that we know — give ca="):
            places.open()
        with pytest.raises(InvalidConfig, match=r"ca: .*can't be used: No such file"):
            places.open(ca=tmp_path / "certificate-that-is-not-there.pem")
        places.close()


# --- damage ----------------------------------------------------------------------------------------


def test_bytes_that_are_not_the_digests_are_never_handed_out_whole(places: Places):
    size = 2 * 2**20 + 5
    digest, _ = places.open().put([bytes(size)])
    places.spoil(digest, bytes(size - 1) + b"!")
    store = places.open()
    chunks = store.read(digest)
    got = len(next(chunks)) + len(next(chunks))
    assert 0 < got < size
    with pytest.raises(Damaged):
        next(chunks)
    for _ in range(2):  # and it is not kept here as if it were right
        with pytest.raises(Damaged, match="fedn model seed FILE"), store.map(digest):
            pass


def test_a_large_damaged_blob_is_written_over_in_parts(places: Places):
    digest, _ = places.open().put([LARGE])
    places.spoil(digest, LARGE[:-1] + b"!")
    places.open().put([LARGE])
    assert whole(places.open(), digest) == LARGE


HALF_A_PUT = """
import sys
from fedn.stores import open_models
from minio import Minio
def wait(*_, **__):
    print("half", flush=True)
    sys.stdin.read()
Minio._complete_multipart_upload = wait
open_models(sys.argv[1]).put([bytes(20 * 2**20)])
"""


def test_a_killed_writer_leaves_no_half_blob(places: Places, monkeypatch: pytest.MonkeyPatch):
    """All parts are up, and the last call was not made."""
    writer = subprocess.Popen(
        [sys.executable, "-c", HALF_A_PUT, places.url()], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"half\n"
    writer.kill()
    writer.communicate()
    assert list(places.open().digests()) == []
    assert len(uploads(places)) == 1  # it might be somebody at work

    monkeypatch.setattr(s3, "ABANDONED", timedelta(seconds=-5))  # the server tells whole seconds, rounded up
    assert list(places.open().digests()) == []
    assert uploads(places) == []


def uploads(places: Places) -> list[str]:
    return [key for key, *_ in s3.unfinished(places.client(), place_from(places.url()))]


# --- faults ----------------------------------------------------------------------------------------


def test_a_read_goes_on_where_its_connection_broke(places: Places):
    digest, _ = places.open().put([LARGE])
    with Proxy(places.endpoint.partition("://")[2]) as proxy:
        store = places.open(endpoint=f"http://{proxy.address}")
        chunks = store.read(digest)
        got = bytearray(next(chunks))
        for _ in range(3):
            proxy.cut()
            for chunk in chunks:
                got += chunk
                if len(got) % PART_BYTES < 2**20:
                    break
        got += b"".join(chunks)
        assert bytes(got) == LARGE
        assert proxy.cuts >= 1
        assert proxy.down < 2 * len(LARGE)  # it did not begin anew


def test_a_put_goes_on_after_a_cut(places: Places):
    with Proxy(places.endpoint.partition("://")[2]) as proxy:
        store = places.open(endpoint=f"http://{proxy.address}")
        proxy.cut_after(PART_BYTES + 1000, upwards=True)
        digest, _ = store.put([LARGE])
        assert proxy.cuts == 1
    assert whole(places.open(), digest) == LARGE


def test_a_read_goes_on_when_the_object_server_comes_back(places: Places, swift: Swift):
    digest, _ = places.open().put([LARGE])
    chunks = places.open().read(digest)
    got = bytearray(next(chunks))
    swift.kill("object")
    result: list[bytes] = []
    reader = threading.Thread(target=lambda: result.append(b"".join(chunks)))
    reader.start()
    swift.until_refused("object")
    swift.start("object")
    reader.join(60)
    assert bytes(got) + result[0] == LARGE


def test_a_put_goes_on_when_the_object_server_comes_back(places: Places, swift: Swift):
    store = places.open()
    with Proxy(swift.url.partition("://")[2]) as proxy:
        store = places.open(endpoint=f"http://{proxy.address}")
        result: list[object] = []
        writer = threading.Thread(target=lambda: result.append(store.put([LARGE])))
        writer.start()
        while proxy.up < PART_BYTES // 2:
            writer.join(0.01)
        swift.kill("object")
        swift.until_refused("object")
        swift.start("object")
        writer.join(60)
    assert result == [(digest_of(LARGE), len(LARGE))]
    assert whole(places.open(), digest_of(LARGE)) == LARGE


def test_an_object_server_that_stays_away_is_a_store_that_does_not_answer(
    places: Places, swift: Swift, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(s3, "READ_TRIES", 2)
    monkeypatch.setattr(s3_client, "TRIES", s3_client.TRIES.new(total=1))
    store = places.open()
    digest, _ = store.put([b"abc"])
    swift.kill("object")
    try:
        with pytest.raises(StoreUnavailable):
            store.put([b"xyz"])
        with pytest.raises(StoreUnavailable):
            list(store.read(digest))
        with store.map(digest) as view:  # what it put, it has
            assert bytes(view) == b"abc"
    finally:
        swift.start("object")
    assert store.put([b"xyz"])[1] == 3
    assert whole(store, digest) == b"abc"


# --- memory ----------------------------------------------------------------------------------------


THERE_AND_BACK = """
import os, resource, sys
from fedn.stores import open_models
store, size = open_models(sys.argv[1]), int(sys.argv[2])
block = memoryview(os.urandom(2**21))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
chunks = (block[n % 2**20 :][: min(2**20, size - start)] for n, start in enumerate(range(0, size, 2**20)))
digest, stored = store.put(chunks)
got = sum(len(chunk) for chunk in store.read(digest))
assert stored == got == size
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def test_a_model_is_never_held_in_memory(places: Places):
    """FEDN_LARGE_BYTES=1000000000 for a full gigabyte: the peak over idle is the same."""
    size = max(int(os.environ.get("FEDN_LARGE_BYTES", "256000000")), 256_000_000)
    done = subprocess.run(
        [sys.executable, "-c", THERE_AND_BACK, places.url(), str(size)], check=True, capture_output=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert int(done.stdout) < 0.35 * 256_000_000  # of any size
