"""Model stores in a running Swift, each under a prefix of its own, and what is needed to reach it by TLS."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import identities
import pytest
from minio import Minio
from swift_s3 import ACCESS_KEY, SECRET_KEY

from fedn.identity.authority import Authority
from fedn.stores import open_models
from fedn.stores.s3 import S3Models
from fedn.stores.s3_client import new_client, new_pool
from fedn.stores.s3_url import keys_from, place_from


def with_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put Swift's keys into the environment."""
    monkeypatch.setenv("FEDN_S3_ACCESS_KEY", ACCESS_KEY)
    monkeypatch.setenv("FEDN_S3_SECRET_KEY", SECRET_KEY)


@dataclass
class Places:
    """Opens stores of one test; ``close`` closes them all."""

    endpoint: str
    folder: Path
    prefix: str = field(default_factory=lambda: uuid.uuid4().hex)
    _open: list[S3Models] = field(default_factory=list)

    def url(self, bucket: str = "models", **options: object) -> str:
        chosen = {"endpoint": self.endpoint, "cache": self.folder, **options}
        return f"s3://{bucket}/{self.prefix}?" + "&".join(f"{key}={value}" for key, value in chosen.items())

    def open(self, bucket: str = "models", *, read_only: bool = False, **options: object) -> S3Models:
        store = open_models(self.url(bucket, **options), read_only=read_only)
        assert isinstance(store, S3Models)
        self._open.append(store)
        return store

    def client(self) -> Minio:
        """minio's client as the store has it, to do what the store does not."""
        place = place_from(self.url())
        return new_client(place, keys_from(), new_pool(place), place.endpoint)

    def key(self, digest: str) -> str:
        return f"{self.prefix}/{digest[:2]}/{digest}"

    def spoil(self, digest: str, blob: bytes) -> None:
        """Have other bytes under a digest."""
        client, key = self.client(), self.key(digest)
        client.remove_object(bucket_name="models", object_name=key)
        client.put_object(bucket_name="models", object_name=key, data=BytesIO(blob), length=len(blob))

    def close(self) -> None:
        for store in self._open:
            store.close()


@dataclass
class Certificates:
    """PEM files: an authority of its own, and a certificate by it for this machine's loopback."""

    authority: Path
    certificate: Path
    key: Path

    @classmethod
    def made(cls, folder: Path) -> Certificates:
        authority = Authority.create("store", time.time())
        issued = authority.issue_reducer(("127.0.0.1", "localhost"), time.time(), identities.HOUR)
        made = cls(folder / "authority.pem", folder / "certificate.pem", folder / "key.pem")
        made.authority.write_bytes(issued.authority)
        made.certificate.write_bytes(issued.certificate)
        made.key.write_bytes(issued.key)
        return made
