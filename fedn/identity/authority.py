"""The network's certificate authority: who has its key decides who is in the network.

Only the reducer has one. It signs what `certificates.py` reads; `network_dir.py` keeps it on disk.
"""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING

from fedn.domain.errors import Damaged, InvalidInput
from fedn.domain.identity import Role
from fedn.identity.certificates import (
    CLOCK_SLACK,
    REDUCER_NAME,
    Request,
    common_name,
    fingerprint,
    issued_by,
    load_certificate,
    new_key,
    private_key,
    server_name,
    uri,
)
from fedn.identity.credentials import Credentials

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

AUTHORITY_SECONDS = 10 * 365 * 86_400.0
"""How long an authority lasts; nothing that it issues lasts longer."""
MAX_HOSTS = 32
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Authority:
    """Issues certificates. Safe to use from many threads."""

    def __init__(self, certificate: bytes, key: bytes) -> None:
        """From PEM. Raises Damaged when the two don't belong together."""
        try:
            self._issuer = load_certificate(certificate)
            self._signer = private_key(key)
        except ValueError as error:
            raise Damaged(f"the authority can't be read: {error}; bring both its files back") from None
        if self._issuer.public_key() != self._signer.public_key():
            raise Damaged("the authority's key is not that of its certificate; bring both its files back")
        self.certificate = certificate
        self.fingerprint = fingerprint(certificate)
        self._key = key

    def __repr__(self) -> str:
        return f"Authority({self.fingerprint})"

    @classmethod
    def create(cls, name: str, now: float) -> Authority:
        """A new authority, for the network that people call ``name``."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.serialization import Encoding

        key = new_key()
        signer, subject = private_key(key), common_name(f"fedn network {name}")
        builder = _builder(subject, subject, signer.public_key(), now, now + AUTHORITY_SECONDS)
        builder = (
            builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(signer.public_key()), critical=False)
        )
        return cls(builder.sign(signer, hashes.SHA256()).public_bytes(Encoding.PEM), key)

    def reveal_key(self) -> bytes:
        """The key as PEM, for its one file."""
        return self._key

    @property
    def expires_at(self) -> float:
        return self._issuer.not_valid_after_utc.timestamp()

    def issue(self, request: Request, now: float, seconds: float) -> bytes:
        """A certificate (PEM) for the client or combiner that asks. It never outlives the authority's own."""
        from cryptography import x509

        names: list[x509.GeneralName] = []
        if request.role is Role.COMBINER:
            names.append(x509.DNSName(server_name(request.role, request.member)))
        return self._sign(request.role, request.member, request.public, names, now, seconds)

    def issue_reducer(
        self, hosts: tuple[str, ...], now: float, seconds: float, key: bytes = b""
    ) -> Credentials:
        """The reducer's own, for machines and for browsers that ask for one of ``hosts``.

        ``key`` (PEM) is kept if given. Raises InvalidInput for a host that is none.
        """
        key = key or new_key()
        names = _reducer_names(hosts)
        public = private_key(key).public_key()
        certificate = self._sign(Role.REDUCER, REDUCER_NAME, public, names, now, seconds)
        return Credentials(key, certificate, self.certificate)

    def is_reducer(self, certificate: bytes, hosts: tuple[str, ...]) -> bool:
        """Whether that is a certificate of this authority, for a reducer at ``hosts``. Raises ValueError."""
        from cryptography import x509

        extensions = load_certificate(certificate).extensions
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return issued_by(certificate, self.certificate) and set(names) >= set(_reducer_names(hosts))

    def _sign(
        self, role: Role, member: str, public: EllipticCurvePublicKey, names: list[x509.GeneralName],
        now: float, seconds: float,
    ) -> bytes:  # fmt: skip
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.serialization import Encoding
        from cryptography.x509.oid import ExtendedKeyUsageOID as Use

        who = x509.UniformResourceIdentifier(uri(role, member))
        uses = [Use.CLIENT_AUTH] if role is Role.CLIENT else [Use.CLIENT_AUTH, Use.SERVER_AUTH]
        ends = min(now + seconds, self.expires_at)
        builder = (
            _builder(common_name(member), self._issuer.subject, public, now, ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(x509.SubjectAlternativeName([who, *names]), critical=False)
            .add_extension(_by(self._signer.public_key()), critical=False)
        )
        return builder.sign(self._signer, hashes.SHA256()).public_bytes(Encoding.PEM)


def check_hosts(hosts: tuple[str, ...]) -> tuple[str, ...]:
    """Return ``hosts`` if each is a name or address that a certificate can be for. Raises InvalidInput."""
    if len(hosts) > MAX_HOSTS:
        raise InvalidInput("hosts", f"{len(hosts)} are too many", f"give at most {MAX_HOSTS}")
    for host in hosts:
        _host(host)
    return hosts


def _reducer_names(hosts: tuple[str, ...]) -> list[x509.GeneralName]:
    from cryptography import x509

    names = dict.fromkeys((*check_hosts(hosts), *LOOPBACK))
    return [x509.DNSName(server_name(Role.REDUCER)), *map(_host, names)]


def _host(text: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ip_address(text.strip("[]")))
    except ValueError:
        pass
    labels = text.split(".")
    if len(text) > 253 or not all(_is_label(label) for label in labels):
        problem = f"{text[:80]!r} is no host name"
        raise InvalidInput("hosts", problem, "give a name such as fl.example.org, or an IP address")
    return x509.DNSName(text)


def _is_label(text: str) -> bool:
    letters = text.replace("-", "").replace("_", "")
    return 0 < len(text) <= 63 and letters.isascii() and letters.isalnum() and text[0] != "-" != text[-1]


def _builder(
    subject: x509.Name, issuer: x509.Name, public: EllipticCurvePublicKey, now: float, ends: float
) -> x509.CertificateBuilder:
    from cryptography import x509

    begins = datetime.fromtimestamp(int(now - CLOCK_SLACK), UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(max(begins, datetime.fromtimestamp(int(ends), UTC)))
    )


def _usage(signs: bool) -> x509.KeyUsage:
    """What a key is for: an authority's to sign certificates, everybody else's to shake hands."""
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=signs, crl_sign=signs,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _by(public: EllipticCurvePublicKey) -> x509.AuthorityKeyIdentifier:
    from cryptography import x509

    return x509.AuthorityKeyIdentifier.from_issuer_public_key(public)
