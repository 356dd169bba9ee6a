"""Parsers of bytes and texts from outside: a value or our own error, whatever comes, and nothing stays."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import safetensors
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hostile import RUNS, SEED, fuzzed, inputs, no_growth
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from fedn.domain.errors import Damaged, FednError, InvalidInput, InvalidModel, Unauthenticated
from fedn.domain.identity import AUDIT_GENESIS, AuditEntry, Role, parse_token, read_entry
from fedn.domain.model import FLOAT_DTYPES, ITEM_BYTES, parse_layout
from fedn.domain.round import GENESIS_PARENT, RoundRecord, read_record
from fedn.helpers.files import read_file
from fedn.identity.authority import Authority
from fedn.identity.certificates import new_key, new_request, read_certificate, read_request
from fedn.wire.chunks import CHUNK_BYTES, frame, unframe
from fedn.wire.pb import fedn_pb2 as pb

# --- what is tried, and what must hold -------------------------------------------------------------


def read_chunk(raw: bytes) -> None:
    data = unframe(raw)
    assert len(data) <= CHUNK_BYTES
    assert pb.Chunk.FromString(raw).data == data


def read_model(raw: bytes) -> None:
    """What is accepted covers the file exactly, and the library that everybody else uses reads it alike."""
    layout = parse_layout(raw, len(raw))
    position = 0
    for tensor in layout.tensors:
        assert tensor.start == position
        assert tensor.end - tensor.start == np.prod(tensor.shape, dtype=object) * ITEM_BYTES[tensor.dtype]
        position = tensor.end
    assert layout.data_start + position == len(raw)
    floats = sum(t.end - t.start for t in layout.tensors if t.dtype in FLOAT_DTYPES)
    assert sum(run.end - run.start for run in layout.float_runs) == floats
    assert len(layout.digest) == 64
    assert layout.difference(layout) == ""
    theirs = {name: (entry["dtype"], entry["shape"]) for name, entry in safetensors.deserialize(raw)}
    assert theirs == {t.name: (t.dtype, list(t.shape)) for t in layout.tensors}
    assert read_file(memoryview(raw)).keys() == theirs.keys()


def read_token(raw: bytes) -> None:
    token = parse_token("join", text := raw.decode("utf-8", "surrogateescape"))
    assert token.reveal() == text.strip()
    assert token.secret not in repr(token)


def read_csr(raw: bytes) -> None:
    asked = read_request(raw if b"-----" in raw else as_pem("CERTIFICATE REQUEST", raw))
    assert asked.role in (Role.CLIENT, Role.COMBINER)
    assert 1 <= len(asked.member) <= 64


def read_cert(raw: bytes) -> None:
    found = read_certificate(raw if b"-----" in raw else as_pem("CERTIFICATE", raw))
    assert 1 <= len(found.principal.name) <= 64


def as_pem(kind: str, der: bytes) -> bytes:
    body = base64.encodebytes(der).decode()
    return f"-----BEGIN {kind}-----\n{body}-----END {kind}-----\n".encode()


@dataclass(frozen=True)
class Target:
    """A parser, the errors it may raise, and inputs that it takes."""

    read: Callable[[bytes], Any]
    refusals: type[FednError]
    good: Sequence[bytes]

    def try_(self, raw: bytes) -> bool:
        """Whether it was accepted."""
        try:
            self.read(raw)
        except self.refusals as error:
            assert len(error.message) < 5000  # noqa: PT017
            return False
        except BaseException as fault:  # a panic in Rust is no Exception
            fault.add_note(f"The input was {raw!r}")
            raise
        return True


# --- good ones to start from -----------------------------------------------------------------------


def model_file(entries: Any, data: bytes) -> bytes:
    header = json.dumps(entries).encode()
    return len(header).to_bytes(8, "little") + header + data


def models() -> list[bytes]:
    every = {name: {"dtype": name, "shape": [1], "data_offsets": [0, 0]} for name in ITEM_BYTES}
    at = 0
    for name, size in ITEM_BYTES.items():
        every[name]["data_offsets"] = [at, at + size]
        at += size
    odd = {"": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]},
           "scalar": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]},
           "empty": {"dtype": "F64", "shape": [0, 7], "data_offsets": [4, 4]}}  # fmt: skip
    del odd[""]
    named = {"layer.0.weight": np.ones((2, 3), np.float32), "é": np.zeros(2, np.int8)}
    return [
        save({"w": np.ones(3, np.float16)}),
        save(named, metadata={"format": "pt"}),
        model_file(every, bytes(at)),
        model_file(odd, bytes(4)),
        model_file({"w": {"dtype": "U8", "shape": [1] * 32, "data_offsets": [0, 1]}}, b"x"),
    ]


def requests() -> list[bytes]:
    """Of ours, and ones that are well-formed and not for us: as PEM and as DER."""
    good = [new_request(new_key(), Role.CLIENT, "ann"), new_request(new_key(), Role.COMBINER, "c" * 64)]
    other = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x" * 64)])
    )
    named = other.add_extension(
        x509.SubjectAlternativeName(
            [x509.UniformResourceIdentifier(uri) for uri in ("fedn:client:a", "fedn:admin:b", "x:y:z")]
        ),
        critical=True,
    ).add_extension(x509.BasicConstraints(ca=True, path_length=3), critical=True)
    curves = [ec.generate_private_key(curve) for curve in (ec.SECP384R1(), ec.SECP256R1(), ec.SECP256K1())]
    for key in [*curves, ed25519.Ed25519PrivateKey.generate(), rsa.generate_private_key(65537, 2048)]:
        digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
        for builder in (other, named):
            good.append(builder.sign(key, digest).public_bytes(serialization.Encoding.PEM))
    ders = [x509.load_pem_x509_csr(pem).public_bytes(serialization.Encoding.DER) for pem in good]
    return good + ders


def certificates() -> list[bytes]:
    authority = Authority.create("fuzz", 1e9)
    good = [authority.certificate]
    for role in (Role.CLIENT, Role.COMBINER):
        good.append(authority.issue(read_request(new_request(new_key(), role, "ann")), 1e9, 3600))
    good.append(authority.issue_reducer(["example.org", "127.0.0.1"], 1e9, 3600).certificate)
    ders = [x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER) for pem in good]
    return good + ders


def records() -> list[bytes]:
    entry = AuditEntry(1, AUDIT_GENESIS, 1.5, "admin:ann", "model_seeded", "m", {"size": 3, "ok": True})
    record = RoundRecord("s", 1, GENESIS_PARENT, "m", "m", 3, {"rounds": 1}, "p", 1, 1.5)
    return [entry.canonical(), record.canonical(), b'{"number":1}', b"[]"]


TOKENS = [f"fedn1.{'0a' * 32}.{'1b' * 8}.{'Ab-_0' * 8}xyz".encode(), b" fedn1.", b"fedn1" + b"." * 100]
CHUNKS = [frame(b"x" * size) for size in (0, 1, 127, 128, 16_383, 16_384)]

TARGETS: dict[str, Callable[[], Target]] = {
    "chunk": lambda: Target(read_chunk, InvalidInput, CHUNKS),
    "header": lambda: Target(read_model, InvalidModel, models()),
    "token": lambda: Target(read_token, InvalidInput, TOKENS),
    "request": lambda: Target(read_csr, InvalidInput, requests()),
    "certificate": lambda: Target(read_cert, Unauthenticated, certificates()),
    "audit entry": lambda: Target(read_entry, Damaged, records()),
    "trail record": lambda: Target(read_record, Damaged, records()),
}


@pytest.mark.parametrize("what", TARGETS)
def test_spoilt_bytes(what: str, tally: Callable[[int], None]) -> None:
    target = TARGETS[what]()
    for raw in inputs(target.good, RUNS, SEED + 1000):  # until caches and free lists are full
        target.try_(raw)
    tried = list(inputs(target.good, RUNS))
    read_certificate.cache_clear()
    with no_growth(256 * 2**10):
        taken = sum(map(target.try_, tried))
        read_certificate.cache_clear()
    assert taken < len(tried)
    assert any(map(target.try_, target.good)), "none of the good ones is good: then this tries nothing"
    tally(2 * len(tried))


@pytest.mark.parametrize("what", TARGETS)
def test_noise(what: str, tally: Callable[[int], None]) -> None:
    target = TARGETS[what]()

    @fuzzed
    @given(st.binary(max_size=400) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
    def run(raw: bytes) -> None:
        target.try_(raw)
        tally(1)

    run()


# --- headers of nearly the right form --------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
dimensions = st.lists(st.sampled_from([0, 1, 2, 3, 2**31, 2**62, 2**63, -1, True, 1.0]), max_size=5)
entries = st.fixed_dictionaries({
    "dtype": st.sampled_from([*ITEM_BYTES, "F8_E4M3", "C64", "", 7]),
    "shape": dimensions | json_values,
    "data_offsets": st.lists(st.integers(-1, 40), min_size=1, max_size=3) | json_values,
})  # fmt: skip


@st.composite
def fitting(draw: st.DrawFn) -> tuple[dict[str, Any], bytes]:
    """Tensors whose offsets and shapes belong together, so that what comes after these checks is tried."""
    made: dict[str, Any] = {}
    at = 0
    for name in draw(st.lists(st.text(max_size=6), min_size=1, max_size=5, unique=True)):
        dtype = draw(st.sampled_from(list(ITEM_BYTES)))
        shape = draw(st.lists(st.sampled_from([0, 1, 1, 2, 3]), max_size=4))
        size = ITEM_BYTES[dtype] * int(np.prod(shape, dtype=object))
        made[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    order = draw(st.permutations(list(made)))
    if draw(st.booleans()):
        made["__metadata__"] = draw(st.dictionaries(st.text(max_size=5), st.text(max_size=5) | json_values))
        order.append("__metadata__")
    return {name: made[name] for name in order}, bytes(at + draw(st.sampled_from([0, 0, 0, 1])))


@fuzzed
@given(
    st.tuples(st.dictionaries(st.text(max_size=8), entries | json_values, max_size=4), st.binary(max_size=64))
    | fitting()
)
def test_headers_of_nearly_the_right_form(tally: Callable[[int], None], file: tuple[Any, bytes]) -> None:
    TARGETS["header"]().try_(model_file(*file))
    tally(1)


token_like = st.from_regex(r"\s*fedn[12]?\.[0-9a-fA-F]{60,66}\.[0-9a-f]{15,17}\.[A-Za-z0-9_+/-]{40,45}\s*")


@fuzzed
@given(token_like | st.text(max_size=300))
def test_texts_that_look_like_tokens(tally: Callable[[int], None], text: str) -> None:
    TARGETS["token"]().try_(text.encode("utf-8", "surrogatepass"))
    tally(1)
