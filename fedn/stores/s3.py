"""The ModelStore in an S3 service: one object per blob, at ``prefix/ab/abcdef…``, named by its sha256.

A blob comes to an unlinked file first: its digest is certain before anything appears in the bucket, and
what the service does not take at once can be said again. Large ones go up in parts, and appear with the
last call or not at all. Neighbours: `s3_url` (where, and the keys), `s3_client` (connections and errors),
`s3_local` (files here). Combiners get addresses that are good for a while (`ports.Presigning`).
"""

from __future__ import annotations

import logging
import os
import random
import re
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import BinaryIO

from minio import Minio
from minio.commonconfig import REPLACE, CopySource
from minio.datatypes import ListMultipartUploadsResult, Object
from minio.error import S3Error
from urllib3 import BaseHTTPResponse

from fedn.domain.errors import Damaged, NotFound, StoreUnavailable
from fedn.domain.ids import Digest, check_digest
from fedn.ports import BlobInfo, Buffer
from fedn.stores import rules
from fedn.stores.s3_client import code_of, new_client, new_pool, s3_errors
from fedn.stores.s3_local import LocalBlob, LocalBlobs, released
from fedn.stores.s3_url import Keys, Place, keys_from, place_from

PART_BYTES = 8 * 2**20
PARTS_AT_ONCE = 3
"""Of one upload; so many parts and two more are in memory."""
READ_TRIES = 6
"""How often in a row a read goes on where it broke, without a byte in between."""
ABANDONED = timedelta(days=1)
"""Parts of an upload that began so long ago are a dead writer's."""

_MISSING = ("NoSuchKey", "NoSuchVersion")

log = logging.getLogger("fedn.stores")


class S3Models:
    """A ModelStore in S3. Several processes may use it at once.

    Opening it makes the bucket if it is absent. Raises InvalidConfig for what only a person can mend,
    StoreUnavailable if the service can't be reached, and NotFound for no bucket when ``read_only``.
    """

    def __init__(self, place: Place, keys: Keys, *, read_only: bool = False) -> None:
        self._place = place
        self._read_only = read_only
        self._pool = new_pool(place)
        self._pool_again = new_pool(place, once=False)
        self._client = new_client(place, keys, self._pool, place.endpoint)
        self._again = new_client(place, keys, self._pool_again, place.endpoint)
        self._outside = new_client(place, keys, self._pool, place.public_endpoint)
        self._local = LocalBlobs(place.cache, place.cache_bytes)
        open_bucket(self._client, place, read_only)
        if not read_only:
            drop_abandoned(self._client, place)

    # --- ports.ModelStore ------------------------------------------------------------------------------

    def put(self, chunks: Iterable[Buffer], expected: Digest | None = None) -> tuple[Digest, int]:
        self._check_writable()
        if expected is not None:
            check_digest("expected", expected)
        with self._local.incoming() as blob:
            for chunk in chunks:
                blob.write(chunk)
            digest = blob.digest()
            if expected is not None and expected != digest:
                raise rules.wrong_digest(expected, digest)
            self._upload(digest, blob)
            self._local.keep(digest, blob)
            return digest, blob.size

    def size(self, digest: Digest) -> int:
        return self.blob(digest).size

    def read(self, digest: Digest, offset: int = 0) -> Iterator[Buffer]:
        """Checks at once, connects with the first chunk: an iterator nobody uses holds no connection.

        A broken connection is gone on with. Read from the start, bytes that are not the digest's raise
        Damaged before the last of them is handed out.
        """
        size = self.size(digest)
        rules.check_offset(digest, offset, size)
        chunks = self._chunks(digest, offset, size)
        return _checked(chunks, digest) if offset == 0 else chunks

    @contextmanager
    def map(self, digest: Digest) -> Iterator[memoryview]:
        """A blob that is not on this machine is fetched first."""
        check_digest("digest", digest)
        view = self._local.mapped(digest)
        with released(self._fetched(digest) if view is None else view) as shown:
            yield shown

    def delete(self, digest: Digest) -> None:
        """Forget a blob; views of it that are mapped stay valid."""
        key = self._key(digest)
        self._check_writable()
        self._local.forget(digest)
        with suppress(NotFound), s3_errors(self._place, "delete"), _found(digest):
            self._client.remove_object(bucket_name=self._place.bucket, object_name=key)

    def digests(self) -> Iterator[Digest]:
        for blob in self.blobs():
            yield blob.digest

    def blobs(self) -> Iterator[BlobInfo]:
        """Listed in pages of 1,000."""
        pattern = _pattern(self._place)
        with s3_errors(self._place, "list"):
            listed = self._client.list_objects(
                bucket_name=self._place.bucket, prefix=self._place.prefix, recursive=True
            )
            for found in listed:
                if match := pattern.match(found.object_name or ""):
                    yield _info(Digest(match[2]), found)

    def blob(self, digest: Digest) -> BlobInfo:
        key = self._key(digest)
        with s3_errors(self._place, "read"), _found(digest):
            found = self._client.stat_object(bucket_name=self._place.bucket, object_name=key)
        return _info(digest, found)

    def close(self) -> None:
        self._local.close()
        self._pool.clear()
        self._pool_again.clear()

    # --- ports.Presigning ------------------------------------------------------------------------------

    def url(self, digest: Digest, seconds: int) -> str:
        """Made without asking the service, so also for a blob that is not there."""
        key = self._key(digest)
        if self._place.proxy:
            return ""
        return self._outside.presigned_get_object(
            bucket_name=self._place.bucket, object_name=key, expires=timedelta(seconds=seconds)
        )

    # --- up --------------------------------------------------------------------------------------------

    def _upload(self, digest: Digest, blob: LocalBlob) -> None:
        """Have the blob in the bucket, written now. What is there already is read: damage is written over."""
        whole = self._is_whole(digest)
        if whole:
            self._touch(digest)
            return
        if whole is False:
            log.warning("model %s is damaged at %s, and is written over", digest, self._place)
            with s3_errors(self._place, "write"), blob.reader() as source:
                self._send(self._again, digest, source, blob.size)
            return
        try:
            with s3_errors(self._place, "write"), blob.reader() as source:
                self._send_once(digest, source, blob.size)
        except StoreUnavailable:
            # Somebody else was faster, or an answer was lost and this was said twice.
            if not self._is_whole(digest):
                raise

    def _send_once(self, digest: Digest, source: BinaryIO, size: int) -> None:
        once = self._pool.once
        try:
            self._send(self._client, digest, source, size)
        except S3Error as error:
            if code_of(error) != "NotImplemented" or not once:
                raise
            self._pool.once = False  # it does not know If-None-Match, and minds
            source.seek(0)
            self._send(self._client, digest, source, size)

    def _send(self, client: Minio, digest: Digest, source: BinaryIO, size: int) -> None:
        client.put_object(
            bucket_name=self._place.bucket, object_name=self._key(digest), data=source, length=size,
            part_size=PART_BYTES, num_parallel_uploads=PARTS_AT_ONCE,
        )  # fmt: skip

    def _is_whole(self, digest: Digest) -> bool | None:
        """None if there is nothing under that digest."""
        try:
            for _ in self.read(digest):
                pass
        except NotFound:
            return None
        except Damaged:
            return False
        return True

    def _touch(self, digest: Digest) -> None:
        """Make it written now, by a copy onto itself in the service; in parts if it is very large."""
        bucket, key = self._place.bucket, self._key(digest)
        with s3_errors(self._place, "write"):
            self._again.copy_object(
                bucket_name=bucket, object_name=key, source=CopySource(bucket_name=bucket, object_name=key),
                metadata={"touched": str(int(time.time()))}, metadata_directive=REPLACE,
            )  # fmt: skip

    # --- down ------------------------------------------------------------------------------------------

    def _chunks(self, digest: Digest, offset: int, size: int) -> Generator[Buffer, None, None]:
        """The bytes from ``offset`` on, from as many calls as it takes."""
        tries = 0
        while offset < size:
            try:
                with closing(self._call(digest, offset)) as chunks:
                    for chunk in chunks:
                        offset, tries = offset + len(chunk), 0
                        yield chunk
                if offset != size:
                    raise Damaged(f"{self._place} gave {offset} bytes of {digest}, not {size}", digest=digest)
            except StoreUnavailable:
                tries += 1
                if tries == READ_TRIES:
                    raise
                time.sleep(random.uniform(0.5, 1) * 0.05 * 2**tries)

    def _call(self, digest: Digest, offset: int) -> Generator[Buffer, None, None]:
        with s3_errors(self._place, "read"), _found(digest):
            answer: BaseHTTPResponse = self._client.get_object(
                bucket_name=self._place.bucket, object_name=self._key(digest), offset=offset
            )
            try:
                yield from answer.stream(rules.CHUNK_BYTES, decode_content=False)
            finally:
                answer.close()  # also in the middle
                answer.release_conn()

    def _fetched(self, digest: Digest) -> memoryview:
        with self._local.incoming() as blob:
            for chunk in self.read(digest):
                blob.write(chunk)
            view = blob.mapped()
            self._local.keep(digest, blob)
            return view

    # --- both ------------------------------------------------------------------------------------------

    def _key(self, digest: Digest) -> str:
        check_digest("digest", digest)
        return f"{self._place.prefix}{digest[:2]}/{digest}"

    def _check_writable(self) -> None:
        if self._read_only:
            raise StoreUnavailable(f"{self._place} is open for reading only")


def open_s3(url: str, *, read_only: bool = False, environ: Mapping[str, str] = os.environ) -> S3Models:
    """The store at ``url``, with the keys in the environment. Raises what `S3Models` does."""
    return S3Models(place_from(url, environ), keys_from(environ), read_only=read_only)


# --- opening ---------------------------------------------------------------------------------------


def open_bucket(client: Minio, place: Place, read_only: bool) -> None:
    """See that the bucket is there, and that its blobs may be listed."""
    with s3_errors(place, "open"):
        try:
            next(iter(client.list_objects(bucket_name=place.bucket, prefix=place.prefix)), None)
            return
        except S3Error as error:
            if code_of(error) != "NoSuchBucket":
                raise
    if read_only:
        raise NotFound(f"there is no bucket {place.bucket} at {place.endpoint}")
    with s3_errors(place, "create"):
        try:
            client.make_bucket(bucket_name=place.bucket)
            log.info("made bucket %s at %s", place.bucket, place.endpoint)
        except S3Error as error:
            if code_of(error) != "BucketAlreadyOwnedByYou":  # by another process, meanwhile
                raise


def drop_abandoned(client: Minio, place: Place) -> None:
    """Remove parts that dead writers left. A service that does not tell of them keeps them."""
    oldest = datetime.now(UTC) - ABANDONED
    try:
        with s3_errors(place, "list"):
            for key, upload, began in unfinished(client, place):
                if began < oldest:
                    client._execute("DELETE", place.bucket, key, query_params={"uploadId": upload})
    except StoreUnavailable as error:
        log.warning("parts that dead writers left stay where they are: %s", error.message)


def unfinished(client: Minio, place: Place) -> Iterator[tuple[str, str, datetime]]:
    """(key, number, begin) of uploads of ours that have not come to their end; of many, the first 1,000.

    minio has no method for that any more, and its inner one asks with an empty delimiter, which Swift takes
    at its word.
    """
    asked: dict[str, str | list[str] | tuple[str]] = {"uploads": "", "prefix": place.prefix}
    answer = client._execute("GET", place.bucket, query_params=asked)
    for upload in ListMultipartUploadsResult(answer).uploads:
        if _pattern(place).match(upload.object_name or "") and upload.upload_id and upload.initiated_time:
            yield upload.object_name or "", upload.upload_id, upload.initiated_time


@contextmanager
def _found(digest: Digest) -> Iterator[None]:
    try:
        yield
    except S3Error as error:
        if code_of(error) in _MISSING:
            raise rules.no_model(digest) from None
        raise


def _pattern(place: Place) -> re.Pattern[str]:
    """A blob's key; what else lies in the bucket is not ours."""
    return re.compile(rf"{re.escape(place.prefix)}([0-9a-f]{{2}})/(\1[0-9a-f]{{62}})\Z")


def _info(digest: Digest, found: Object) -> BlobInfo:
    written = found.last_modified
    return BlobInfo(digest, found.size or 0, written.timestamp() if written else 0.0)


def _checked(chunks: Iterator[Buffer], digest: Digest) -> Iterator[Buffer]:
    """The chunks of a whole blob, each but the last as it comes; the last one when all are right."""
    seen, last = sha256(), None
    for chunk in chunks:
        if last is not None:
            yield last
        seen.update(chunk)
        last = chunk
    if seen.hexdigest() != digest:
        raise rules.damaged_blob(digest, Digest(seen.hexdigest()))
    if last is not None:
        yield last


__all__ = ["S3Models", "open_s3"]
