"""Keys, signing requests and certificates, and the names in them.

`authority.py` signs, `credentials.py` keeps, `fedn.wire.security` puts them on the wires. The URI
``fedn:<role>:<member>`` says who somebody is, a DNS name under ``fedn.internal`` which server it is;
nobody resolves that name, and the common name is for people only.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from fedn.domain.errors import InvalidInput, Unauthenticated
from fedn.domain.identity import MEMBERS, Principal, Role
from fedn.domain.ids import Digest, check_id, digest_of

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

MAX_PEM_BYTES = 16 * 1024
"""No request, and no certificate of ours, is nearly as long."""
REDUCER_NAME = "reducer"
CLOCK_SLACK = 300.0
"""Certificates begin so many seconds before they are issued: clocks differ."""

_DOMAIN = "fedn.internal"
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")


@dataclass(frozen=True, slots=True)
class Request:
    """A signing request whose signature was right. ``key`` is the sha256 of the public key (SPKI, DER)."""

    role: Role
    member: str
    key: Digest
    public: EllipticCurvePublicKey = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Certified:
    """What a certificate says. Who signed it is for TLS, or `Authority`, to check."""

    principal: Principal
    serial: str
    not_before: float
    not_after: float
    key: Digest


def new_key() -> bytes:
    """A private key as PEM (PKCS 8, P-256)."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())


def private_key(pem: bytes) -> EllipticCurvePrivateKey:
    """Raises ValueError, which never shows the key, for anything but a P-256 key in PEM."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, None)
    except Exception:
        raise ValueError("not a private key in PEM") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("not a P-256 key")
    return key


def key_digest(public: EllipticCurvePublicKey) -> Digest:
    """The sha256 of a public key (SPKI, DER), by which the network knows it."""
    from cryptography.hazmat.primitives import serialization as form

    return digest_of(public.public_bytes(form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo))


# --- signing requests ------------------------------------------------------------------------------


def new_request(key: bytes, role: Role, member: str) -> bytes:
    """A signing request as PEM: the public half of ``key``, who asks, and a signature by ``key``."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives import serialization as form

    builder = x509.CertificateSigningRequestBuilder().subject_name(common_name(member)).add_extension(
        x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri(role, member))]), critical=False
    )  # fmt: skip
    return builder.sign(private_key(key), hashes.SHA256()).public_bytes(form.Encoding.PEM)


def read_request(pem: bytes) -> Request:
    """Read and check a stranger's signing request. Raises InvalidInput."""
    if len(pem) > MAX_PEM_BYTES:
        raise _bad_request(f"has {len(pem)} bytes; {MAX_PEM_BYTES} are allowed")
    try:
        return _read_request(pem)
    except InvalidInput:
        raise
    except Exception:  # a parser has many ways to say that bytes are not what they should be
        raise _bad_request("is no readable signing request") from None


def _read_request(pem: bytes) -> Request:
    from cryptography import x509

    request = x509.load_pem_x509_csr(pem)
    public = _p256(request.public_key())
    if public is None:
        raise _bad_request("is not for a P-256 key")
    if not request.is_signature_valid:
        raise _bad_request("is not signed by its own key")
    role, member = _who(request.extensions)
    if role not in MEMBERS:
        raise _bad_request(f"asks to be {role}; only a client or a combiner can join")
    return Request(role, member, key_digest(public), public)


def _bad_request(problem: str) -> InvalidInput:
    return InvalidInput("request", problem, "send one that this version of fedn has made")


# --- certificates ----------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def read_certificate(pem: bytes) -> Certified:
    """Who a certificate names, and until when. Raises Unauthenticated.

    It may have expired, and who issued it is not looked at.
    """
    try:
        certificate = load_certificate(pem)
        public = _p256(certificate.public_key())
        role, member = _who(certificate.extensions)
    except Exception:
        raise Unauthenticated("the certificate can't be read, or is not one of a fedn network") from None
    if public is None:
        raise Unauthenticated("the certificate is not for a P-256 key")
    begin, end = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    return Certified(
        Principal(role, member, expires_at=end), f"{certificate.serial_number:x}", begin, end,
        key_digest(public),
    )  # fmt: skip


def load_certificate(pem: bytes) -> x509.Certificate:
    """The first certificate in ``pem``. Raises ValueError."""
    from cryptography import x509

    if len(pem) > MAX_PEM_BYTES:
        raise ValueError(f"more than {MAX_PEM_BYTES} bytes")
    return x509.load_pem_x509_certificate(pem)


def fingerprint(ca_pem: bytes) -> str:
    """The sha256 of an authority's certificate (DER), by which a token names its network.

    Raises ValueError when ``ca_pem`` is no certificate.
    """
    from cryptography.hazmat.primitives.serialization import Encoding

    return hashlib.sha256(load_certificate(ca_pem).public_bytes(Encoding.DER)).hexdigest()


def issued_by(certificate: bytes, authority: bytes) -> bool:
    """Whether ``authority`` signed ``certificate``. Raises ValueError when one of them is none."""
    from cryptography.exceptions import InvalidSignature

    issued, issuer = load_certificate(certificate), load_certificate(authority)
    try:
        issued.verify_directly_issued_by(issuer)
    except (InvalidSignature, TypeError, ValueError):
        return False
    return True


# --- names -----------------------------------------------------------------------------------------


def server_name(role: Role, member: str = "") -> str:
    """The DNS name that the certificate of a reducer, or of the combiner ``member``, is for.

    Whoever connects verifies this name, whatever address it dials, and sends it as SNI, so that a
    front door which passes TLS through can tell by it who is wanted.
    """
    if role is Role.REDUCER:
        return f"reducer.{_DOMAIN}"
    if role is not Role.COMBINER:
        raise ValueError(f"a {role} is no server")
    if _LABEL.match(member):
        return f"{member}.combiner.{_DOMAIN}"
    return f"{hashlib.sha256(member.encode()).hexdigest()[:32]}.hashed.combiner.{_DOMAIN}"


def is_server_name(text: str) -> bool:
    """Whether this is, or looks like, a name that `server_name` gives: nobody else may be called so."""
    return f".{text.rstrip('.').lower()}".endswith(f".{_DOMAIN}")


def uri(role: Role, member: str) -> str:
    """The name of a member in a certificate. Raises InvalidInput for a name that is none."""
    return f"fedn:{role}:{check_id('member', member)}"


def common_name(text: str) -> x509.Name:
    """A subject for people to read, cut to the length that X.509 allows."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _who(extensions: x509.Extensions) -> tuple[Role, str]:
    """The one URI in the names of a request or certificate."""
    from cryptography import x509

    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise InvalidInput("request", f"has {len(uris)} URIs", "name one member")
    scheme, role, member = uris[0].split(":", 2)
    if scheme != "fedn":
        raise ValueError("another scheme")
    return Role(role), check_id("member", member)


def _p256(public: object) -> EllipticCurvePublicKey | None:
    from cryptography.hazmat.primitives.asymmetric import ec

    if isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, ec.SECP256R1):
        return public
    return None
