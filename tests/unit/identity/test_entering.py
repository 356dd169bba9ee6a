"""What a client or combiner finds in its folder before it has asked anybody."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import identities
import pytest

from fedn.domain.errors import Damaged, InvalidConfig
from fedn.domain.identity import Role, TokenText
from fedn.identity.authority import Authority
from fedn.identity.certificates import new_request, read_request
from fedn.identity.credentials import Keyring
from fedn.identity.entering import Applicant, enter

URL = "https://reducer.example.org"
AUTHORITY = Authority.create("test", time.time())


def none() -> None:
    return None


def of(fingerprint: str) -> Callable[[], TokenText]:
    return lambda: TokenText(fingerprint, "0" * 16, "s" * 43)


@pytest.fixture
def ann(tmp_path: Path) -> Applicant:
    return Applicant(Role.CLIENT, "ann", "ann", tmp_path / "identity")


def joined(who: Applicant, *, seconds: float = identities.HOUR, ago: float = 0.0) -> None:
    """As an earlier start has left it."""
    keyring = Keyring(who.directory)
    request = read_request(new_request(keyring.key(), who.role, who.member))
    keyring.save(AUTHORITY.issue(request, time.time() - ago, seconds), AUTHORITY.certificate)


async def test_where_nobody_is_asked_nothing_is_held(ann: Applicant) -> None:
    assert await enter("http://127.0.0.1:8090", none, ann) is None
    assert not ann.directory.exists()


async def test_an_identity_that_is_there_is_used_and_nobody_is_asked(ann: Applicant) -> None:
    joined(ann)
    member = await enter(URL, none, ann)
    assert member
    assert str(member.wallet.current.principal) == "client:ann"
    assert await enter(URL, of(AUTHORITY.fingerprint), ann)


async def test_the_file_of_a_token_that_was_used_may_be_gone(ann: Applicant) -> None:
    def gone() -> TokenText:
        raise InvalidConfig("join_file", "token can't be read", "")

    joined(ann)
    assert await enter(URL, gone, ann)
    with pytest.raises(InvalidConfig, match="token can't be read"):
        await enter(URL, gone, Applicant(Role.CLIENT, "bob", "bob", ann.directory.with_name("bob")))


async def test_a_network_is_not_left_for_a_plain_address(ann: Applicant) -> None:
    joined(ann)
    with pytest.raises(InvalidConfig, match=r"http://127.0.0.1 is plain HTTP, and .*identity holds"):
        await enter("http://127.0.0.1", none, ann)


async def test_without_an_identity_a_token_is_asked_for(ann: Applicant) -> None:
    with pytest.raises(InvalidConfig, match=r"join: is missing, .*fedn token create --role client"):
        await enter(URL, none, ann)


@pytest.mark.parametrize(("role", "member"), [(Role.CLIENT, "bob"), (Role.COMBINER, "ann")])
async def test_the_identity_of_somebody_else_is_not_taken(ann: Applicant, role: Role, member: str) -> None:
    joined(Applicant(role, member, member, ann.directory))
    with pytest.raises(InvalidConfig, match=f"this is client:ann, .* holds the identity of {role}:{member}"):
        await enter(URL, none, ann)


async def test_a_token_for_another_network_is_not_overlooked(ann: Applicant) -> None:
    joined(ann)
    with pytest.raises(InvalidConfig, match="join: is a token of another network"):
        await enter(URL, of("0" * 64), ann)


async def test_a_certificate_that_is_still_to_come_shows_that_the_clock_is_wrong(ann: Applicant) -> None:
    joined(ann, ago=-3 * 86_400)
    with pytest.raises(
        InvalidConfig, match=r"clock: it is 20\d\d-.* here, and the certificate is valid from"
    ):
        await enter(URL, none, ann)


async def test_a_damaged_identity_is_named(ann: Applicant) -> None:
    joined(ann)
    (ann.directory / "certificate.pem").write_text("nonsense")
    with pytest.raises(Damaged, match=r"certificate\.pem"):
        await enter(URL, none, ann)
