"""Making tokens and checking their secrets; `fedn.domain.identity` has their form."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping

from fedn.domain.identity import Role, Token, TokenText
from fedn.domain.ids import digest_of

SECRET_BYTES = 32


def new_token(
    fingerprint: str,
    role: Role,
    *,
    name: str = "",
    labels: Mapping[str, str] | None = None,
    uses: int,
    created_at: float,
    seconds: float,
    created_by: str,
) -> tuple[TokenText, Token]:
    """A token for the network of that fingerprint: what its owner is shown once, and what is stored."""
    secret = secrets.token_urlsafe(SECRET_BYTES)
    text = TokenText(fingerprint, secrets.token_hex(8), secret)
    stored = Token(
        text.token, role, name, dict(labels or {}), uses, 0, created_at, created_at + seconds, created_by,
        digest_of(secret.encode()),
    )  # fmt: skip
    return text, stored


def secret_matches(token: Token, secret: str) -> bool:
    """Whether ``secret`` is the token's, in a time that does not tell how nearly it was."""
    return hmac.compare_digest(digest_of(secret.encode()), token.secret_digest)
