"""Certificates on the wires: TLS for HTTPS and gRPC, and who is at the other end of it.

Everything here takes `Credentials` or a `Wallet` of `fedn.identity`. Machines verify the names that the
network's authority has given (`certificates.server_name`), not the address they dialled. Who may make a
call that comes in is asked in `guard.py`.
"""

from __future__ import annotations

import secrets
import socket
import ssl
import tempfile

import grpc

from fedn.domain.errors import InvalidConfig
from fedn.domain.identity import Principal, Role
from fedn.identity.certificates import private_key, read_certificate, server_name
from fedn.identity.credentials import Credentials, Wallet
from fedn.wire.guard import RoleInterceptor, caller, principal_of
from fedn.wire.tls_reasons import tls_reason

REDUCER = server_name(Role.REDUCER)

# --- HTTPS -----------------------------------------------------------------------------------------


class _ForOneName(ssl.SSLContext):
    """Asks for one server name and verifies it, whatever host was dialled."""

    name: str

    def wrap_socket(  # the base class's own arguments, all of which may come by position
        self, sock: socket.socket, server_side: bool = False, do_handshake_on_connect: bool = True,
        suppress_ragged_eofs: bool = True, server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLSocket:  # fmt: skip
        return super().wrap_socket(
            sock, server_side, do_handshake_on_connect, suppress_ragged_eofs, self.name, session
        )

    def wrap_bio(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, server_side: bool = False,
        server_hostname: str | bytes | None = None, session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:  # fmt: skip
        return super().wrap_bio(incoming, outgoing, server_side, self.name, session)


def https_context(
    authority: bytes | None, credentials: Credentials | None = None, ca_bundle: str = ""
) -> ssl.SSLContext:
    """How to call the reducer: whom to believe, and what to show.

    With ``ca_bundle`` (the path of a PEM file) its authorities vouch for the URL's host, as in browsers;
    else ``authority`` (PEM) for the reducer's name in the network, whatever the URL says; with neither, the
    authorities of this machine. Raises InvalidConfig for a bundle that can't be used.
    """
    context: ssl.SSLContext
    if ca_bundle or authority is None:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
        if ca_bundle:
            context = _with_bundle(ca_bundle)
    else:
        context = _ForOneName(ssl.PROTOCOL_TLS_CLIENT)
        context.name = REDUCER
        context.load_verify_locations(cadata=authority.decode("ascii"))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False  # a common name is for people
    if credentials is not None:
        _show(context, credentials)
    return context


def https_server_context(wallet: Wallet, certificate: str = "", key: str = "") -> ssl.SSLContext:
    """How the reducer answers. It shows its certificate, asks for one of the network, and does without it.

    ``certificate`` and ``key`` (paths of PEM files) are a company's own, for browsers: they are shown to
    whoever does not ask for the reducer's name in the network. What is put into ``wallet`` later serves new
    connections. Raises InvalidConfig.
    """
    shown = [_server_context(wallet.current)]
    wallet.on_change(lambda credentials: shown.__setitem__(0, _server_context(credentials)))
    company = _company_context(wallet.current.authority, certificate, key) if certificate else None

    def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        connection.context = company if company is not None and name != REDUCER else shown[0]

    front = _server_context(wallet.current)
    front.sni_callback = choose  # called for those who send no name, too
    return front


def https_principal(certificate: bytes | None, address: str) -> Principal:
    """Who is at the other end of an HTTPS connection, by ``getpeercert(binary_form=True)``.

    NOBODY without a certificate: people say by their token who they are. Raises Unauthenticated.
    """
    if not certificate:
        return Principal(Role.NOBODY, address)
    return read_certificate(ssl.DER_cert_to_PEM_cert(certificate).encode("ascii")).principal


def _server_context(credentials: Credentials) -> ssl.SSLContext:
    context = _asking(credentials.authority)
    _show(context, credentials)
    return context


def _asking(authority: bytes) -> ssl.SSLContext:
    """A server's context that has nothing to show yet."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(cadata=authority.decode("ascii"))
    # Nobody resumes: who is revoked or has expired shows that at every new connection.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    return context


def _company_context(authority: bytes, certificate: str, key: str) -> ssl.SSLContext:
    context = _asking(authority)
    try:
        context.load_cert_chain(certificate, key or None, password=_no_password)
    except (OSError, ValueError) as error:
        problem = f"{certificate} can't be used: {_said(error)}"
        remedy = "give the PEM files of a certificate with its chain, and of its key"
        raise InvalidConfig("https_certificate", problem, remedy) from None
    return context


def _no_password() -> str:
    """Instead of OpenSSL's question at the terminal."""
    raise ValueError("the key is encrypted")


def _with_bundle(path: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=path)
    except OSError as error:
        raise InvalidConfig("ca_bundle", f"{path} can't be used: {_said(error)}", "give a PEM file") from None


def _show(context: ssl.SSLContext, credentials: Credentials) -> None:
    """Show a certificate from now on.

    OpenSSL reads it from files only. The key lies there encrypted, with a password that is known here
    alone, and for a moment.
    """
    from cryptography.hazmat.primitives import serialization as form

    password = secrets.token_hex(32)
    key = private_key(credentials.key).private_bytes(
        form.Encoding.PEM, form.PrivateFormat.PKCS8, form.BestAvailableEncryption(password.encode())
    )
    with tempfile.NamedTemporaryFile(prefix="fedn-") as file:
        file.write(key + credentials.certificate)
        file.flush()
        context.load_cert_chain(file.name, password=password)


def _said(error: Exception) -> str:
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error)


# --- gRPC ------------------------------------------------------------------------------------------


def channel_credentials(credentials: Credentials) -> grpc.ChannelCredentials:
    """How to call a combiner; `open_channel` adds the name to verify."""
    return grpc.ssl_channel_credentials(credentials.authority, credentials.key, credentials.certificate)


def server_credentials(wallet: Wallet) -> grpc.ServerCredentials:
    """How a combiner answers: a certificate of this network is required of everybody.

    What is put into ``wallet`` later serves new connections.
    """
    shown = [wallet.current]

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        """Called in gRPC's threads for every new connection; None leaves what is shown."""
        if shown[0] is (current := wallet.current):
            return None
        shown[0] = current
        return _configuration(current)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(wallet.current),
        fetch,  # type: ignore[arg-type] # the stubs don't know that None means the same again
        require_client_authentication=True,
    )


def _configuration(credentials: Credentials) -> grpc.ServerCertificateConfiguration:
    pair = (credentials.key, credentials.certificate)
    return grpc.ssl_server_certificate_configuration([pair], root_certificates=credentials.authority)


__all__ = [
    "REDUCER", "RoleInterceptor", "caller", "channel_credentials", "https_context", "https_principal",
    "https_server_context", "principal_of", "server_credentials", "tls_reason",
]  # fmt: skip
