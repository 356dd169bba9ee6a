"""The web server itself, over real sockets: certificates, those who stall, those who send too much."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from web_site import PATIENCE, Site, answer_of, head

from fedn.config import ReducerSettings
from fedn.domain.errors import InvalidConfig
from fedn.domain.identity import Role, parse_token
from fedn.identity.certificates import new_key, new_request, read_certificate, read_request
from fedn.identity.credentials import Credentials
from fedn.identity.network_dir import NetworkDir, create
from fedn.reducer import web as web_module
from fedn.reducer import web_connection
from fedn.reducer.web import Web, names_in
from fedn.wire.security import REDUCER


@pytest.fixture
def helper(beside):
    return beside("small_network")


# --- who is at the other end -----------------------------------------------------------------------


def test_a_member_is_known_by_its_certificate_and_somebody_without_is_not(net, start):
    site = start()
    with site.client(net.join("client", "ann")) as ann, site.client() as nobody:
        assert ann.get("/api/v1/whoami").json()["name"] == "ann"
        assert nobody.get("/api/v1/whoami").status_code == 401
        answer = nobody.get("/api/v1/whoami", headers={"Authorization": f"Bearer {net.admin}"})
        assert answer.json()["role"] == "admin"


def test_it_joins_and_comes_back_with_what_it_got(net, start):
    site, key = start(), new_key()
    body = {
        "token": net.token("combiner"),
        "request": new_request(key, Role.COMBINER, "c1").decode(),
        "name": "",
    }
    with site.client() as http:
        got = http.post("/api/v1/join", json=body).json()
    mine = Credentials(key, got["certificate"].encode(), got["authority"].encode())
    me = {"protocol": 1, "combiner": "c1", "address": "127.0.0.1:1", "incarnation": "i1"}
    with site.client(mine) as http:
        assert http.post("/api/v1/combiners", json=me).status_code == 200
        assert http.post("/api/v1/combiners", json=me | {"combiner": "c2"}).status_code == 403


def other_network(tmp_path, role: str, member: str) -> Credentials:
    other = NetworkDir.open(create(tmp_path / "other", "other", (), time.time()).directory)
    key = new_key()
    certificate = other.authority.issue(read_request(new_request(key, Role(role), member)), time.time(), 3600)
    return Credentials(key, certificate, other.authority.certificate)


def test_a_certificate_of_another_network_or_from_yesterday_is_refused(net, start, tmp_path):
    site, key = start(), new_key()
    net.join("client", "ann")
    request = read_request(new_request(key, Role.CLIENT, "ann"))
    old = Credentials(key, net.dir.authority.issue(request, time.time() - 7200, 3600), site.authority)
    for wrong in (old, other_network(tmp_path, "client", "ann")):
        with site.client(wrong) as http, pytest.raises(httpx.TransportError):
            http.get("/healthz")
    assert site.alive()


def test_a_revoked_member_is_refused_on_the_connection_that_it_has(net, start, helper):
    site = start()
    with site.client(net.join("client", "ann")) as ann:
        assert ann.get("/api/v1/whoami").status_code == 200
        net.registrar.revoke_member(Role.CLIENT, "ann", helper.BY)
        answer = ann.get("/api/v1/whoami")
    assert (answer.status_code, answer.json()["code"]) == (403, "revoked")


def test_an_old_tls_is_refused(start):
    site = start()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="deprecated"):
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with site.connect() as sock, pytest.raises(ssl.SSLError):
        context.wrap_socket(sock)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with site.connect() as sock, context.wrap_socket(sock) as shaken:
        assert shaken.version() == "TLSv1.2"


def serial(sock: ssl.SSLSocket) -> str:
    with sock:
        pem = ssl.DER_cert_to_PEM_cert(sock.getpeercert(binary_form=True))
        return f"{x509.load_pem_x509_certificate(pem.encode()).serial_number:x}"


def test_a_renewed_certificate_serves_new_connections_and_old_ones_go_on(net, start):
    site = start()
    with site.client() as before:
        assert before.get("/healthz").status_code == 200
        assert serial(site.tls()) == read_certificate(net.wallet.current.certificate).serial
        now = time.time() + 46 * 86_400
        assert net.dir.renew(now)
        renewed = read_certificate(net.wallet.current.certificate).serial
        assert serial(site.tls()) == renewed
        assert before.get("/healthz").status_code == 200


def company(directory) -> tuple[str, str]:
    """PEM files of a certificate that the company's own authority would have given."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "fl.clinic.example")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(7).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("fl.clinic.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    form = serialization
    (directory / "c.pem").write_bytes(certificate.public_bytes(form.Encoding.PEM))
    (directory / "k.pem").write_bytes(
        key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    )
    return str(directory / "c.pem"), str(directory / "k.pem")


def test_a_companys_certificate_is_for_browsers_and_the_networks_for_members(net, start, tmp_path):
    certificate, key = company(tmp_path)
    site = start(https_certificate=certificate, https_key=key, network_dir="n")
    own = read_certificate(net.wallet.current.certificate).serial
    assert [serial(site.tls(name)) for name in ("fl.clinic.example", REDUCER, "x.example")] == ["7", own, "7"]
    assert names_in(certificate) == ("fl.clinic.example",)
    with site.client(net.join("client", "ann")) as ann:
        assert ann.get("/api/v1/whoami").json()["name"] == "ann"


def test_a_companys_certificate_that_can_not_be_used_is_said_at_the_start(net, tmp_path):
    certificate, key = company(tmp_path)
    nothing = tmp_path / "empty.pem"
    nothing.write_text("")
    for wrong in ({"https_certificate": str(nothing), "https_key": key},
                  {"https_certificate": certificate, "https_key": str(nothing)}):  # fmt: skip
        with pytest.raises(InvalidConfig, match="https_certificate"):
            Web(net.app(), ReducerSettings(port=0, network_dir="n", **wrong), net.wallet)
    for path in (str(nothing), str(tmp_path / "missing.pem")):
        with pytest.raises(InvalidConfig, match="https_certificate"):
            names_in(path)
    assert names_in("") == ()


# --- who speaks something else ---------------------------------------------------------------------


def test_plain_http_to_the_https_port_gets_a_sentence(start):
    site = start()
    answer = httpx.get(f"http://127.0.0.1:{site.port}/healthz", timeout=PATIENCE, trust_env=False)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_config")
    assert "https://" in answer.json()["error"]


def test_https_to_the_plain_port_is_hung_up_on(start):
    site = start(plain=True)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"https://127.0.0.1:{site.port}/healthz", verify=False, timeout=PATIENCE, trust_env=False)
    assert site.alive()


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize(
    "junk",
    [b"\x00" * 100, b"\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"\xff" * 500],
    ids=["zeros", "lines", "verb", "hello"],
)
def test_junk_is_hung_up_on(start, plain, junk):
    site = start(plain=plain)
    with site.connect() as sock:
        with contextlib.suppress(OSError):  # it may be gone before we have said all
            sock.sendall(junk)
            sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while sock.recv(4096):
                pass
    assert site.alive()


# --- who stalls ------------------------------------------------------------------------------------


def hello() -> bytes:
    """The beginning of a handshake, which then goes no further."""
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=REDUCER).do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("plain", [True, False])
def test_those_who_say_nothing_or_half_of_it_hold_nobody_up(start, plain):
    site, stalled = start(plain=plain), contextlib.ExitStack()
    halves = [b"", b"P", b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n"]
    halves.append(halves[-1] + b"\r\ntoken=")
    with stalled:
        for number in range(50):
            sock = stalled.enter_context(site.connect())
            said = halves[number % 4]
            if not plain:
                if number % 3 == 0:
                    said = hello()[: 100 if number % 2 else None]
                elif said:
                    sock = stalled.enter_context(site.secured(sock))
            sock.sendall(said)
        for _ in range(5):
            assert site.alive()


LENGTHS = ["Content-Length : 60000", "Content-Length: \x0b60000", "Content-Length: 60000\x0c",
           "Content-Length:\r\n 60000", "Content-Length:\r60000"]  # fmt: skip
"""As cheroot takes them, and a simple search for a length does not."""


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("path", ["/login", "/api/v1/join", "/api/v1/clients/assignment"])
def test_nobody_is_waited_for_by_a_length_that_was_overlooked(start, path, length):
    site = start()
    with contextlib.ExitStack() as stalled:
        for _ in range(4):  # twice as many as there are threads
            sock = stalled.enter_context(site.secured())
            sock.sendall(head(f"POST {path} HTTP/1.1", "Content-Type: application/json", length))
        assert site.alive()


def test_a_member_that_promises_more_than_it_sends_holds_nobody_up(net, start):
    site, client = start(), net.join("client", "ann")
    with contextlib.ExitStack() as stalled:
        for size in (70_000, 60_000, 70_000, 60_000):
            sock = stalled.enter_context(site.tls(credentials=client))
            sock.sendall(head("POST /api/v1/clients/assignment HTTP/1.1", f"Content-Length: {size}"))
        assert site.alive()


def test_who_takes_too_long_over_a_request_is_hung_up_on(start, monkeypatch):
    monkeypatch.setattr(web_connection, "GATHER_SECONDS", 0.2)
    site = start()

    def trickle(sock: ssl.SSLSocket) -> None:
        while True:
            sock.sendall(b"X")
            time.sleep(0.05)

    with site.secured() as sock, pytest.raises((ConnectionError, ssl.SSLError)):
        trickle(sock)


def test_what_stalls_is_still_answered_when_it_goes_on(start):
    site = start()
    with site.secured() as sock:
        for piece in (
            b"GET /healthz HT",
            b"TP/1.1\r\nHost: localhost\r\n",
            b"Connection: close\r",
            b"\n\r\n",
        ):
            sock.sendall(piece)
            assert site.alive()  # which takes a turn of the server's loop, so that each piece comes alone
        assert answer_of(sock)[0] == 200


def test_of_too_many_connections_those_go_that_waited_longest(start, monkeypatch):
    monkeypatch.setattr(web_module, "MAX_CONNECTIONS", 10)
    site = start(plain=True)
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(site.connect()) for _ in range(10)]
        for _ in range(5):
            assert site.alive()
        gone, _, _ = select.select(silent, [], [], PATIENCE)
        assert {sock.recv(1) for sock in gone} == {b""}
        assert len(gone) <= 5, "those who made room, and no more"


# --- who sends too much ----------------------------------------------------------------------------


def refusal(site: Site, request: bytes) -> tuple[int, bytes]:
    with site.secured() as sock:
        with contextlib.suppress(ConnectionError, ssl.SSLError):  # it need not listen to the end
            sock.sendall(request)
        return answer_of(sock)


def test_a_head_that_does_not_end_is_refused(start):
    site = start()
    for line in (
        b"Authorization: Bearer " + b"x" * 100_000,
        b"".join(b"K%d: v\r\n" % n for n in range(10_000)),
    ):
        assert refusal(site, b"GET /healthz HTTP/1.1\r\n" + line)[0] in (413, 400, 0)
    assert refusal(site, b"GET /" + b"x" * 100_000)[0] in (414, 400, 0)
    assert site.alive()


def test_lengths_that_can_be_read_in_two_ways_are_refused(start):
    site = start()
    for length in ("-5", "+5", "1_0", "0x10", "5, 5", "9" * 30, "٥"):
        assert refusal(site, head("POST /login HTTP/1.1", f"Content-Length: {length}"))[0] == 400, length
    for coding in ("chunked", "gzip", "identity, chunked"):
        request = head("POST /login HTTP/1.1", f"Transfer-Encoding: {coding}") + b"ffffffffff\r\nx"
        assert refusal(site, request)[0] in (411, 501)


def test_a_large_body_of_a_stranger_is_refused_and_not_read(start):
    site = start()
    for path, status in (("/api/v1/models", 401), ("/api/v1/join", 413), ("/login", 413), ("/nothing", 413)):
        size = 2**40 if status == 413 else 999_999
        request = head(f"POST {path} HTTP/1.1", f"Content-Length: {size}")
        assert refusal(site, request + b"x" * 1000)[0] == status
    assert site.alive()


def test_a_body_that_waits_to_be_asked_for_is_not_asked_for_of_a_stranger(start):
    site = start()
    for path, status in (("/api/v1/join", 400), ("/api/v1/models", 401)):
        with site.secured() as sock:
            sock.sendall(head(f"POST {path} HTTP/1.1", "Content-Length: 50", "Expect: 100-continue"))
            data = b""
            while piece := sock.recv(4096):  # the server closes without having read the body
                data += piece
        assert f"HTTP/1.1 {status}".encode() in data


def test_a_refused_upload_is_told_why(net, start, small):
    site = start()
    with site.client() as http:
        answer = http.post("/api/v1/models", content=small.model_file(size=2_000_000))
    assert answer.status_code == 401


@pytest.mark.parametrize("plain", [True, False])
def test_requests_that_come_together_are_answered_one_by_one(net, start, plain):
    site = start(plain=plain)
    ask = head("GET /healthz HTTP/1.1")
    post = head("POST /login HTTP/1.1", "Content-Length: 5", "Content-Type: text/plain") + b"hello"
    last = head("GET /readyz HTTP/1.1", "Connection: close")
    with site.connect() as bare:
        sock = bare if plain else site.secured(bare)
        sock.sendall(ask + post + ask + last)
        data = b""
        while piece := sock.recv(65536):
            data += piece
        sock.close()
    assert [int(part[:3]) for part in data.split(b"HTTP/1.1 ")[1:]] == [200, 409 if plain else 400, 200, 200]
    assert data.count(b"alive") == 2
    assert data.endswith(b"\n")


def test_a_model_goes_up_and_down_whole(net, start, small):
    site, model = start(), small.model_file(1.0, 1_000_000)
    with site.client() as http:
        http.headers["Authorization"] = f"Bearer {net.admin}"
        digest = http.post("/api/v1/models", content=model).json()["digest"]
        assert http.get(f"/api/v1/models/{digest}").content == model


# --- the end ---------------------------------------------------------------------------------------


def test_an_open_stream_ends_when_its_reader_is_revoked(net, start, helper):
    site, token = start(), net.token("viewer")
    with site.client() as http:
        http.headers["Authorization"] = f"Bearer {token}"
        with http.stream("GET", "/api/v1/events/stream") as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith("retry")
            net.registrar.revoke_token(parse_token("", token).token, False, helper.BY)
            assert [line for line in lines if line.startswith("data")] == []
        again = http.get("/api/v1/events/stream")
    assert (again.status_code, again.json()["code"]) == (403, "revoked")


def test_it_stops_while_connections_are_open(net, start):
    site = start()
    with site.connect(), site.secured(), site.client() as http:
        http.get("/healthz")
        stopping = threading.Thread(target=site.web.stop)
        stopping.start()
        stopping.join(PATIENCE)
        assert not stopping.is_alive()


def test_everybody_says_the_same_in_json(start):
    site = start()
    status, body = refusal(site, head("GET /api/v1/network HTTP/1.1", "Connection: close"))
    assert (status, json.loads(body)["code"]) == (401, "unauthenticated")
