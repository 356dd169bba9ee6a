from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedn.domain.errors import InvalidInput
from fedn.domain.identity import TOKEN_BYTES, Role, parse_token
from fedn.identity.tokens import new_token, secret_matches

FINGERPRINT = "ab" * 32


def made(role: Role = Role.CLIENT):
    return new_token(
        FINGERPRINT, role, name="ann", labels={"site": "north"}, uses=1, created_at=1000.0, seconds=60.0,
        created_by="admin:root",
    )  # fmt: skip


def test_a_token_comes_back_from_its_text_and_matches_what_is_stored() -> None:
    text, stored = made()
    again = parse_token("join", f"  {text.reveal()}\n")
    assert again == text
    assert again.token == stored.token
    assert secret_matches(stored, again.secret)
    assert (stored.role, stored.name, dict(stored.labels)) == (Role.CLIENT, "ann", {"site": "north"})
    assert (stored.uses, stored.used, stored.expires_at) == (1, 0, 1060.0)


def test_another_token_s_secret_does_not_match() -> None:
    (one, _), (_, stored) = made(), made()
    assert not secret_matches(stored, one.secret)
    assert not secret_matches(stored, "")


def test_neither_form_shows_the_secret() -> None:
    text, stored = made()
    for shown in (repr(text), str(text), repr(stored), str(stored)):
        assert text.secret not in shown
        assert stored.secret_digest not in shown
    assert text.secret not in stored.secret_digest


@pytest.mark.parametrize(
    "text",
    [
        "", "fedn1", "hunter2-hunter2", FINGERPRINT,
        f"fedn2.{FINGERPRINT}.{'0' * 16}.{'s' * 43}",
        f"fedn1.{FINGERPRINT}.{'0' * 16}.{'s' * 42}",
        f"fedn1.{FINGERPRINT}.{'0' * 16}.{'s' * 43}\n.",
        f"fedn1.{FINGERPRINT.upper()}.{'0' * 16}.{'s' * 43}",
        f"fedn1.{FINGERPRINT}.{'0' * 16}.{'s' * 42}/",
        "fedn1." + "x" * TOKEN_BYTES * 1000,
    ],
)  # fmt: skip
def test_what_is_no_token_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(InvalidInput, match="join: is not a token") as caught:
        parse_token("join", text)
    said = repr(caught.value) + str(caught.value.details)
    assert not text or text not in said


@given(st.text(max_size=300))
def test_no_part_of_a_wrong_text_is_repeated(text: str) -> None:
    secret = f"S3CR3T{text}"
    with pytest.raises(InvalidInput) as caught:
        parse_token("join", secret)
    assert "S3CR3T" not in str(caught.value) + str(caught.value.details)
