"""A store that gives its models away itself: who is sent there, and what the audit log has of it."""

from __future__ import annotations

import pytest

from fedn.domain.ids import Digest, check_digest
from fedn.stores.memory import MemoryModels

ADDRESS = "https://store.example.org/{}?X-Amz-Signature=secret"
FOLLOWS = {"Fedn-Follows": "1"}


class Elsewhere(MemoryModels):
    """``reached``: whether others reach it."""

    reached = True

    def url(self, digest: Digest, seconds: int) -> str:
        assert 60 <= seconds <= 3600
        return ADDRESS.format(check_digest("digest", digest)) if self.reached else ""


@pytest.fixture
def store(service) -> Elsewhere:
    service.models = Elsewhere()
    return service.models


@pytest.fixture
def model(store: Elsewhere) -> str:
    return store.put([b"model"])[0]


def test_who_follows_is_sent_to_the_store_and_that_is_in_the_audit_log(net, beside, model: str):
    combiner = beside("small_network").shown(net.join("combiner", "c1"))
    with net.app().test_client() as http:
        answer = http.get(f"/api/v1/models/{model}", headers=FOLLOWS, environ_overrides=combiner)
    assert answer.status_code == 307
    assert answer.headers["Location"] == ADDRESS.format(model)
    assert answer.headers["Cache-Control"] == "no-store"
    (entry,) = net.audit("model_downloaded")
    assert (entry.subject, "secret" in repr(net.store.raw_audit())) == (model, False)


def test_everybody_else_gets_the_bytes(net, beside, store: Elsewhere, model: str):
    combiner = beside("small_network").shown(net.join("combiner", "c1"))
    with net.app().test_client() as http:
        assert http.get(f"/api/v1/models/{model}", environ_overrides=combiner).data == b"model"
        store.reached = False
        answer = http.get(f"/api/v1/models/{model}", headers=FOLLOWS, environ_overrides=combiner)
    assert (answer.status_code, answer.data) == (200, b"model")


def test_nobody_is_sent_there_who_may_not_read(net, beside, model: str):
    client = beside("small_network").shown(net.join("client", "ann"))
    with net.app().test_client() as http:
        for who, status in ((client, 403), ({}, 401)):
            answer = http.get(f"/api/v1/models/{model}", headers=FOLLOWS, environ_overrides=who)
            assert (answer.status_code, "Location" in answer.headers) == (status, False)
