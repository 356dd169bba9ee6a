"""Connections to an S3 service through the minio client, and what it says in this system's words.

Connections are as many as threads that call; 16 are kept. Every wait has an end, and what a service may
get over (no connection, 429, 5xx) is tried again for some seconds before it is an error.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree.ElementTree import ParseError

from minio import Minio
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3 import BaseHTTPResponse, PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError, NameResolutionError
from urllib3.exceptions import TimeoutError as TooSlow

from fedn.domain.errors import FednError, InvalidConfig, StoreUnavailable
from fedn.stores.s3_url import FIELD, Keys, Place

CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 60.0
KEPT_CONNECTIONS = 16
TRIES = Retry(
    total=5, connect=3, other=1, redirect=False, backoff_factor=0.2, allowed_methods=None,
    status_forcelist=(429, 500, 502, 503, 504), raise_on_redirect=False, raise_on_status=False,
    respect_retry_after_header=False,
)  # fmt: skip
"""Anything may be said twice here: a blob's bytes are always the same."""

_BLOB = re.compile(r"/[0-9a-f]{64}\Z")
_LETTERS = 200
_KEY = {
    "InvalidAccessKeyId": "it does not know this access key",
    "SignatureDoesNotMatch": "the secret key does not belong to this access key",
    "ExpiredToken": "the session token has expired",
    "InvalidToken": "the session token is not valid",
}
_REGION = (
    "AuthorizationHeaderMalformed",
    "PermanentRedirect",
    "Redirect",
    "IllegalLocationConstraintException",
)
_TLS = {
    "not yet valid": ("its certificate is not valid yet", "set the clocks right"),
    "has expired": ("its certificate has expired", "renew it there"),
    "mismatch": ("its certificate is for another name", "give the endpoint by the name in it"),
    "CERTIFICATE_VERIFY_FAILED": (
        "its certificate is not by an authority that we know", "give ca=/path.pem, which holds its authority"
    ),
    "WRONG_VERSION_NUMBER": ("it does not speak TLS", "give the endpoint as http://"),
}  # fmt: skip
_RIGHTS = {
    "open": "s3:ListBucket", "create": "s3:CreateBucket", "list": "s3:ListBucket",
    "delete": "s3:DeleteObject", "read": "s3:GetObject and s3:ListBucket",
    "write": "s3:PutObject, s3:GetObject and s3:ListBucket",
}  # fmt: skip


class OncePool(PoolManager):
    """Lets a key be written only while there is nothing under it: minio has no argument for that.

    ``once`` is for services that refuse the header. Without it the last of equal bytes stays.
    """

    once = True

    def urlopen(  # type: ignore[override] # as minio calls it
        self, method: str, url: str, redirect: bool = True, **options: Any
    ) -> BaseHTTPResponse:
        headers = options.get("headers")
        if (
            self.once
            and headers is not None
            and _makes_an_object(method, url)
            and "x-amz-copy-source" not in headers
        ):
            headers["If-None-Match"] = "*"
        return super().urlopen(method, url, redirect=redirect, **options)


def _makes_an_object(method: str, url: str) -> bool:
    """Whether this is the call by which a blob appears: of one piece, or the last of many."""
    parts = urlsplit(url)
    asked = set(parse_qs(parts.query, keep_blank_values=True))
    last = (method == "PUT" and not asked) or (method == "POST" and asked == {"uploadId"})
    return last and bool(_BLOB.search(parts.path))


def new_pool(place: Place, once: bool = True) -> OncePool:
    """Raises InvalidConfig for authorities that can't be read."""
    try:
        context = ssl.create_default_context(cafile=place.ca or None)
    except OSError as error:
        problem = f"{place.ca} can't be used: {getattr(error, 'reason', None) or error.strerror or error}"
        raise InvalidConfig(f"{FIELD}, ca", problem, "give a PEM file of authorities") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    pool = OncePool(
        maxsize=KEPT_CONNECTIONS, ssl_context=context, retries=TRIES,
        timeout=Timeout(connect=CONNECT_SECONDS, read=ANSWER_SECONDS),
    )  # fmt: skip
    pool.once = once
    return pool


def new_client(place: Place, keys: Keys, pool: PoolManager, endpoint: str) -> Minio:
    """A client of ``endpoint``. It is told the region, so it never asks for it."""
    secure, _, address = endpoint.partition("://")
    client = Minio(
        endpoint=address, access_key=keys.access, secret_key=keys.secret, session_token=keys.session,
        secure=secure == "https", region=place.region, http_client=pool,
    )  # fmt: skip
    if place.path_style is True:
        client.disable_virtual_style_endpoint()  # type: ignore[no-untyped-call]
    elif place.path_style is False:
        client.enable_virtual_style_endpoint()  # type: ignore[no-untyped-call]
    return client


@contextmanager
def s3_errors(place: Place, doing: str) -> Iterator[None]:
    """Turn what goes wrong into StoreUnavailable. ``doing`` is a key of the rights that it needs.

    While a bucket is opened or created, what only a person can mend is InvalidConfig.
    """
    try:
        yield
    except FednError:
        raise
    except (MinioException, HTTPError, HTTPException, ParseError, ValueError, OSError) as error:
        # Without its cause: that may hold addresses with signatures in them.
        raise _explained(place, doing, error) from None


def code_of(error: S3Error) -> str:
    return error.code or ""


def _explained(place: Place, doing: str, error: Exception) -> FednError:
    reason, remedy = _refusal(place, doing, error)
    if not reason:
        return StoreUnavailable(f"{place} {_passing(error)}")
    if doing in ("open", "create"):
        return InvalidConfig(FIELD, f"{place}: {reason}", remedy)
    return StoreUnavailable(f"{place}: {reason} — {remedy}")


def _refusal(place: Place, doing: str, error: Exception) -> tuple[str, str]:
    """What only a person can mend, and how; empty if it may pass by itself."""
    if not isinstance(error, S3Error):
        return next((words for sign, words in _TLS.items() if sign in str(error)), ("", ""))
    code = code_of(error)
    if code in _KEY:
        return _KEY[code], "check FEDN_S3_ACCESS_KEY and FEDN_S3_SECRET_KEY"
    if code in ("AccessDenied", "AllAccessDisabled"):
        remedy = f"let its key have {_RIGHTS[doing]} on bucket {place.bucket}, or check the secret key"
        return f"it does not let us {doing} ({code})", remedy
    if code == "RequestTimeTooSkewed":
        return "its clock and ours differ too much", "set the clocks right"
    if code == "NoSuchBucket":
        return f"bucket {place.bucket} is gone", "bring it back, or start the reducer again to make it anew"
    if code in ("BucketAlreadyExists", "InvalidBucketName"):
        return f"bucket {place.bucket} can't be made ({code})", "give another one"
    if code in _REGION:
        return f"it is not of region {place.region} ({_said(error.message)})", "give region=…"
    return "", ""


def _passing(error: Exception) -> str:
    if isinstance(error, S3Error):
        return f"can't do it now: {code_of(error)} ({_said(error.message)})"
    if isinstance(error, ServerError):
        return f"can't do it now: it answered {error.status_code}"
    if isinstance(error, (InvalidResponseError, ParseError, ValueError)):
        return f"answers{_status(error)}, not as an S3 service would; is it one?"
    return f"can't be reached ({_broken(getattr(error, 'reason', None) or error)})"


def _broken(error: Exception) -> str:
    """Why there is no connection, without its address, which may have a signature in it."""
    if isinstance(error, NameResolutionError):
        return "its name is not known here"
    if said := getattr(error.__cause__ or error, "strerror", None):
        return str(said)
    return "it does not answer in time" if isinstance(error, TooSlow) else type(error).__name__


def _status(error: Exception) -> str:
    code = getattr(error, "_code", None)  # minio gives it nowhere else but in the text, with the whole page
    return f" {code}" if code else ""


def _said(text: str | None) -> str:
    """Words of the service, short and on one line."""
    return "".join(c if c.isprintable() else " " for c in text or "")[:_LETTERS]
