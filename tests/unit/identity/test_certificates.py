"""Requests and certificates: what goes in comes out, and what strangers send is refused."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID as Use
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from fedn.domain.errors import Damaged, InvalidInput, Unauthenticated
from fedn.domain.identity import MEMBERS, Principal, Role
from fedn.identity.authority import AUTHORITY_SECONDS, Authority
from fedn.identity.certificates import (
    CLOCK_SLACK,
    MAX_PEM_BYTES,
    fingerprint,
    issued_by,
    load_certificate,
    new_key,
    new_request,
    private_key,
    read_certificate,
    read_request,
    server_name,
)

NOW = 1_800_000_000.0
DAY = 86_400.0
AUTHORITY = Authority.create("hospitals", NOW)


# --- round trips -----------------------------------------------------------------------------------


@pytest.mark.parametrize("role", sorted(MEMBERS))
def test_a_certificate_says_who_asked_for_it(role: Role) -> None:
    key = new_key()
    request = read_request(new_request(key, role, "clinic-3.b_2"))
    certificate = AUTHORITY.issue(request, NOW, DAY)
    certified = read_certificate(certificate)
    assert certified.principal == Principal(role, "clinic-3.b_2", expires_at=NOW + DAY)
    assert (certified.not_before, certified.not_after) == (NOW - CLOCK_SLACK, NOW + DAY)
    assert certified.key == request.key
    assert issued_by(certificate, AUTHORITY.certificate)


def test_each_has_a_key_and_a_serial_of_its_own() -> None:
    issued = [
        AUTHORITY.issue(read_request(new_request(new_key(), Role.CLIENT, "ann")), NOW, DAY) for _ in range(2)
    ]
    one, two = map(read_certificate, issued)
    assert one.key != two.key
    assert one.serial != two.serial


def test_only_servers_may_serve_and_only_under_their_own_name() -> None:
    def issued(role: Role) -> x509.Extensions:
        request = read_request(new_request(new_key(), role, "b"))
        return load_certificate(AUTHORITY.issue(request, NOW, DAY)).extensions

    def names(extensions: x509.Extensions) -> list[str]:
        found = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return found.get_values_for_type(x509.DNSName)

    def uses(extensions: x509.Extensions) -> set[x509.ObjectIdentifier]:
        return set(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)

    client, combiner = issued(Role.CLIENT), issued(Role.COMBINER)
    reducer = load_certificate(AUTHORITY.issue_reducer(("fl.example.org",), NOW, DAY).certificate).extensions
    assert (names(client), uses(client)) == ([], {Use.CLIENT_AUTH})
    assert (names(combiner), uses(combiner)) == (
        ["b.combiner.fedn.internal"], {Use.CLIENT_AUTH, Use.SERVER_AUTH}
    )  # fmt: skip
    assert names(reducer) == ["reducer.fedn.internal", "fl.example.org", "localhost"]
    for extensions in (client, combiner, reducer):
        constraints = extensions.get_extension_for_class(x509.BasicConstraints)
        usage = extensions.get_extension_for_class(x509.KeyUsage)
        assert constraints.critical
        assert not constraints.value.ca
        assert usage.critical
        assert not usage.value.key_cert_sign


def test_the_authority_may_sign_members_and_no_other_authority() -> None:
    extensions = load_certificate(AUTHORITY.certificate).extensions
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
    assert usage.critical
    assert (usage.value.key_cert_sign, usage.value.crl_sign, usage.value.digital_signature) == (
        True,
        True,
        False,
    )


def test_no_certificate_outlives_its_authority() -> None:
    late = NOW + AUTHORITY_SECONDS - DAY
    request = read_request(new_request(new_key(), Role.CLIENT, "ann"))
    assert read_certificate(AUTHORITY.issue(request, late, 30 * DAY)).not_after == AUTHORITY.expires_at
    assert AUTHORITY.issue_reducer((), late, 90 * DAY).expires_at == AUTHORITY.expires_at
    dead = read_certificate(AUTHORITY.issue(request, AUTHORITY.expires_at + DAY, DAY))
    assert dead.not_after <= AUTHORITY.expires_at + DAY - CLOCK_SLACK


def test_an_authority_comes_back_from_its_files() -> None:
    again = Authority(AUTHORITY.certificate, AUTHORITY.reveal_key())
    assert again.fingerprint == AUTHORITY.fingerprint == fingerprint(AUTHORITY.certificate)
    issued = again.issue(read_request(new_request(new_key(), Role.CLIENT, "ann")), NOW, DAY)
    assert issued_by(issued, AUTHORITY.certificate)


def test_another_network_of_the_same_name_is_another_network() -> None:
    other = Authority.create("hospitals", NOW)
    issued = other.issue(read_request(new_request(new_key(), Role.CLIENT, "ann")), NOW, DAY)
    assert other.fingerprint != AUTHORITY.fingerprint
    assert not issued_by(issued, AUTHORITY.certificate)


def test_a_key_of_another_authority_is_refused() -> None:
    with pytest.raises(Damaged, match="not that of its certificate"):
        Authority(AUTHORITY.certificate, new_key())
    with pytest.raises(Damaged, match="not a private key in PEM"):
        Authority(AUTHORITY.certificate, b"key?")
    with pytest.raises(Damaged, match="can't be read"):
        Authority(b"certificate?", AUTHORITY.reveal_key())


# --- names of servers ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["b", "combiner-2", "hashed", "x" * 63])
def test_a_combiner_has_a_name_that_tls_can_verify(name: str) -> None:
    assert server_name(Role.COMBINER, name) == f"{name}.combiner.fedn.internal"


@pytest.mark.parametrize("name", ["Berlin", "a.b", "a_b", "a-", "x" * 64])
def test_a_name_that_is_no_label_is_hashed(name: str) -> None:
    digest = hashlib.sha256(name.encode()).hexdigest()[:32]
    assert server_name(Role.COMBINER, name) == f"{digest}.hashed.combiner.fedn.internal"


IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)


@given(IDS, IDS)
def test_two_combiners_never_share_a_server_name(one: str, two: str) -> None:
    names = {server_name(Role.COMBINER, one), server_name(Role.COMBINER, two)}
    assert len(names) == len({one, two})
    assert server_name(Role.REDUCER) not in names
    for name in names:
        labels = name.split(".")
        assert name == name.lower()
        assert all(0 < len(label) <= 63 and label[0] != "-" != label[-1] for label in labels)


def test_a_client_is_no_server() -> None:
    with pytest.raises(ValueError, match="no server"):
        server_name(Role.CLIENT, "ann")


@pytest.mark.parametrize(
    "host", ["", "a b", "-a.example", "*.example.org", "a..b", "x" * 300, "http://a", "a/b"]
)
def test_a_reducer_is_not_certified_for_what_is_no_host(host: str) -> None:
    with pytest.raises(InvalidInput, match="is no host name"):
        AUTHORITY.issue_reducer((host,), NOW, DAY)


def test_a_reducer_can_be_reached_by_address() -> None:
    issued = load_certificate(AUTHORITY.issue_reducer(("192.0.2.7", "[2001:db8::1]"), NOW, DAY).certificate)
    names = issued.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    assert addresses == ["192.0.2.7", "2001:db8::1", "127.0.0.1", "::1"]


# --- hostile requests ------------------------------------------------------------------------------


def forged(
    uris: Sequence[str] | None, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None
) -> bytes:
    """A well-signed request by somebody who does not use our code."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mallory")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if uris is not None:
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    signer = key or ec.generate_private_key(ec.SECP256R1())
    return builder.sign(signer, hashes.SHA256()).public_bytes(Encoding.PEM)


P384, RSA = ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)


def with_a_broken_signature() -> bytes:
    der = bytearray(
        x509.load_pem_x509_csr(new_request(new_key(), Role.CLIENT, "ann")).public_bytes(Encoding.DER)
    )
    at = der.index(b"fedn:client:ann")
    der[at : at + 15] = b"fedn:client:bob"
    return x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    ("pem", "problem"),
    [
        pytest.param(b"A" * (MAX_PEM_BYTES + 1), "16385 bytes; 16384 are allowed", id="too long"),
        pytest.param(b"", "no readable", id="empty"),
        pytest.param(b"\x00\xff garbage", "no readable", id="garbage"),
        pytest.param(b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
                     "no readable", id="garbage in PEM"),
        pytest.param(AUTHORITY.certificate, "no readable", id="a certificate"),
        pytest.param(with_a_broken_signature(), "not signed by its own key", id="another name"),
        pytest.param(forged(["fedn:client:a", "fedn:client:b"]), "2 URIs", id="two names"),
        pytest.param(forged([]), "0 URIs", id="no URI"),
        pytest.param(forged(None), "no readable", id="no names at all"),
        pytest.param(forged(["fedn:reducer:reducer"]), "asks to be reducer", id="the reducer"),
        pytest.param(forged(["fedn:admin:root"]), "asks to be admin", id="a person"),
        pytest.param(forged(["fedn:anybody:x"]), "asks to be anybody", id="anybody"),
        pytest.param(forged(["fedn:king:x"]), "no readable", id="no such role"),
        pytest.param(forged(["other:client:x"]), "no readable", id="another scheme"),
        pytest.param(forged(["fedn:client"]), "no readable", id="no member"),
        pytest.param(forged(["fedn:client:../../etc/passwd"]), "not a valid name", id="a path"),
        pytest.param(forged(["fedn:client:a:b"]), "not a valid name", id="a colon"),
        pytest.param(forged(["fedn:client:" + "x" * 65]), "not a valid name", id="a long name"),
        pytest.param(forged(["fedn:client:ann"], P384), "not for a P-256 key", id="another curve"),
        pytest.param(forged(["fedn:client:ann"], RSA), "not for a P-256 key", id="RSA"),
    ],
)  # fmt: skip
def test_a_hostile_request_is_refused(pem: bytes, problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        read_request(pem)


@given(st.binary(max_size=400))
def test_noise_is_never_a_request_nor_a_certificate(noise: bytes) -> None:
    pem = (
        b"-----BEGIN CERTIFICATE REQUEST-----\n"
        + base64.encodebytes(noise)
        + b"-----END CERTIFICATE REQUEST-----\n"
    )
    for text in (noise, pem):
        with pytest.raises(InvalidInput):
            read_request(text)
        with pytest.raises(Unauthenticated):
            read_certificate(text)


def test_what_a_request_asks_for_beside_its_name_is_not_granted() -> None:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "reducer.fedn.internal")])
    names = [x509.UniformResourceIdentifier("fedn:client:ann"), x509.DNSName("reducer.fedn.internal")]
    key = ec.generate_private_key(ec.SECP256R1())
    hostile = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )
    issued = load_certificate(AUTHORITY.issue(read_request(hostile), NOW, DAY))
    granted = issued.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert granted.get_values_for_type(x509.DNSName) == []
    assert not issued.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert issued.subject.rfc4514_string() == "CN=ann"


# --- certificates of others ------------------------------------------------------------------------


def foreign(names: list[x509.GeneralName]) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    moment = datetime.fromtimestamp(NOW, UTC)
    builder = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(7).not_valid_before(moment).not_valid_after(moment)
    )  # fmt: skip
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    "pem",
    [
        b"", b"certificate?", AUTHORITY.certificate, foreign([]), foreign([x509.DNSName("a.example.org")]),
        foreign([x509.UniformResourceIdentifier("spiffe://somebody/else")]),
        foreign([x509.UniformResourceIdentifier(f"fedn:client:{name}") for name in "ab"]),
        b"x" * (MAX_PEM_BYTES + 1),
    ],
)  # fmt: skip
def test_a_certificate_that_names_no_member_says_nothing(pem: bytes) -> None:
    with pytest.raises(Unauthenticated, match="can't be read, or is not one of a fedn network"):
        read_certificate(pem)


def test_a_certificate_is_read_once() -> None:
    issued = AUTHORITY.issue(read_request(new_request(new_key(), Role.CLIENT, "ann")), time.time(), DAY)
    assert read_certificate(issued) is read_certificate(bytes(bytearray(issued)))


def test_a_key_that_can_t_be_read_does_not_show() -> None:
    with pytest.raises(ValueError, match=r"\Anot a private key in PEM\Z") as caught:
        private_key(b"-----BEGIN PRIVATE KEY-----\nU0VDUkVU\n-----END PRIVATE KEY-----\n")
    assert "U0VDUkVU" not in repr(caught.value)
    assert caught.value.__cause__ is None
