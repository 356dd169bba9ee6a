"""Archives and manifests from outside: taken whole, or refused in our words with nothing left behind."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hostile import RUNS, SEED, fuzzed, inputs, no_growth
from hypothesis import given
from hypothesis import strategies as st
from package_files import FILES, MANIFEST, archive, member

from fedn.domain.errors import InvalidInput
from fedn.packages.archive import extract, inspect, remove
from fedn.packages.manifest import manifest_from, read_manifest
from fedn.packages.members import MAX_FILES

LONG = {**FILES, "é" * 40 + "/" + "x" * 120: "long"}
GIT = tarfile.TarInfo.create_pax_global_header({"comment": "0123"}) + archive()
ARCHIVES = [
    *(archive(LONG, kind=kind) for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)),
    archive(FILES, member("folder", tarfile.DIRTYPE), kind=tarfile.USTAR_FORMAT),
    archive(FILES, member("x", pax_headers={"path": "y" * 200, "SCHILY.xattr.user.a": "b"})),
    GIT,
]


class Room:
    """Where archives are unpacked: whatever comes, nothing is left in it or beside it."""

    def __init__(self, root: Path) -> None:
        self.root = root / "room"
        self.root.mkdir()
        (root / "beside").write_text("untouched")
        self.around = root

    def take(self, data: bytes) -> bool:
        """Whether an archive was unpacked; what was, is what Python's own reader finds in it."""
        target = self.root / "out"
        try:
            package = extract(data, target)
        except InvalidInput as error:
            assert len(error.message) < 5000  # noqa: PT017
            assert list(self.root.iterdir()) == []
            return False
        except BaseException as fault:
            fault.add_note(f"The input was {data!r}")
            raise
        finally:
            assert sorted(path.name for path in self.around.iterdir()) == ["beside", "room"]
        found = {str(p.relative_to(target)): p.read_bytes() for p in target.rglob("*") if p.is_file()}
        assert not any(path.is_symlink() for path in target.rglob("*"))
        assert found.keys() == {file.path for file in package.files}
        assert len(found) <= MAX_FILES
        assert sum(map(len, found.values())) <= len(data)
        assert found == read_by_python(data)
        remove(target)
        return True


def read_by_python(data: bytes) -> dict[str, bytes]:
    """The files in a tar as `tarfile` reads them, by their names in plain form."""
    files = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:", encoding="utf-8", errors="strict") as tar:
        for info in tar:
            if info.isfile():
                content = tar.extractfile(info)
                assert content is not None
                name = info.name
                while name.startswith("./"):
                    name = name[2:]
                files[name] = content.read()
    return files


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def test_the_good_ones_are_good(room: Room, tally: Callable[[int], None]) -> None:
    assert all(map(room.take, ARCHIVES))
    tally(len(ARCHIVES))


def resealed(data: bytes) -> bytes:
    """The same with right checksums wherever a header may be, so that what is behind them is tried."""
    made = bytearray(data)
    for start in range(0, len(made) - 511, 512):
        block = made[start : start + 512]
        if block[257:262] == b"ustar":
            block[148:156] = b" " * 8
            made[start + 148 : start + 156] = b"%06o\0 " % sum(block)
    return bytes(made)


@pytest.mark.parametrize("sealed", [True, False], ids=["resealed", "spoilt"])
def test_spoilt_archives(room: Room, tally: Callable[[int], None], sealed: bool) -> None:
    tried = [resealed(raw) if sealed else raw for raw in inputs(ARCHIVES, RUNS)]
    taken = sum(map(room.take, tried))
    with no_growth(256 * 2**10):  # unpacking makes new names all the time, for which Python keeps a table
        assert sum(map(is_good, tried)) == taken
    assert taken < RUNS
    tally(2 * RUNS)


def is_good(data: bytes) -> bool:
    try:
        inspect(data)
    except InvalidInput:
        return False
    return True


names = st.sampled_from(
    [
        "fedn.yaml",
        "app.py",
        "App.py",
        "app",
        "a/b",
        "a",
        "..",
        "../x",
        "/x",
        "./x",
        "",
        ".",
        "a\\b",
        "é",
        "x" * 101,
        "a/",
    ]
) | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
kinds = st.sampled_from([tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE,
                         tarfile.FIFOTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, tarfile.XHDTYPE,
                         tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
                         b"X"])  # fmt: skip
extended = st.dictionaries(
    st.sampled_from(["path", "size", "linkpath", "mtime", "comment", "GNU.sparse.name"]), names, max_size=2,
)  # fmt: skip
members = st.builds(
    lambda name, kind, size, headers: member(name, kind, size=size, linkname="app.py", pax_headers=headers),
    names, kinds, st.sampled_from([0, 0, 1, 511, 512, 513, 2**33, 2**62]), extended,
)  # fmt: skip


@fuzzed
@given(
    st.lists(st.tuples(members, st.binary(max_size=600)), max_size=4),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
    st.sampled_from([b"", bytes(512), bytes(1024), b"x"]),
)
def test_archives_of_nearly_the_right_form(
    tmp_path_factory: pytest.TempPathFactory, tally: Callable[[int], None],
    odd: list[tuple[tarfile.TarInfo, bytes]], kind: int, end: bytes,
) -> None:  # fmt: skip
    body = archive().rstrip(b"\0")
    body += bytes(-len(body) % 512)
    for info, data in odd:
        try:
            body += info.tobuf(kind, "utf-8", "strict")
        except ValueError:  # too large for a header of this kind
            return
        body += data + bytes(-len(data) % 512)
    Room(tmp_path_factory.mktemp("archive")).take(body + end)
    tally(1)


@fuzzed
@given(st.binary(max_size=2000))
def test_noise_is_no_archive(tally: Callable[[int], None], raw: bytes) -> None:
    with pytest.raises(InvalidInput):
        inspect(raw)
    tally(1)


# --- manifests -------------------------------------------------------------------------------------


def read(text: str | bytes) -> bool:
    """Whether it is a manifest; one that is comes back from JSON as it was."""
    try:
        manifest = read_manifest(text)
    except InvalidInput as error:
        assert error.message.startswith(("fedn.yaml", "package: "))  # noqa: PT017
        assert error.message.isprintable()  # noqa: PT017
        assert len(error.message) < 5000  # noqa: PT017
        return False
    except BaseException as fault:
        fault.add_note(f"The input was {text!r}")
        raise
    assert manifest_from(manifest.as_dict()) == manifest
    assert "train" in manifest.entry_points
    return True


MANIFESTS = [
    MANIFEST.encode(),
    yaml.safe_dump(read_manifest(MANIFEST).as_dict()).encode(),
    b"name: x\nentry_points:\n  train: |\n    python a.py <model_in>\ntimeout: 1.5\nrequirements: []\n",
]


def test_spoilt_manifests(tally: Callable[[int], None]) -> None:
    assert all(map(read, MANIFESTS))
    for raw in inputs(MANIFESTS, RUNS, SEED + 1000):
        read(raw)
    with no_growth(256 * 2**10):
        taken = sum(map(read, inputs(MANIFESTS, RUNS)))
    assert 0 < taken < RUNS
    tally(2 * RUNS)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(scalars, inner, max_size=3)
)
points = st.sampled_from(
    ["x", "x <model_in>", "x <y>", {"python": "a:b"}, {"python": "a.b:c"}, {"python": "a"}, "", {}]
)
nearly: st.SearchStrategy[Mapping[Any, Any]] = st.fixed_dictionaries(
    {"name": st.sampled_from(["a", "a b", "../a"]) | values,
     "entry_points": st.dictionaries(
         st.sampled_from(["train", "validate", "predict", "startup", "build", "trian"]), points | values
     ) | values},
    optional={
        "description": values, "helper": st.just("keras") | values, "timeout": st.floats(0, 1e6) | values,
        "requirements": st.lists(st.sampled_from(["a>=1", "a[b]", "a @ b"]) | values, max_size=3) | values,
        "hyperparameters": st.dictionaries(st.text("abs_", max_size=4), scalars, max_size=3) | values,
        "more": values,
    },
)  # fmt: skip


@fuzzed
@given(nearly)
def test_manifests_of_nearly_the_right_form(tally: Callable[[int], None], given: Mapping[Any, Any]) -> None:
    read(yaml.dump(given, allow_unicode=True))
    tally(1)


yaml_pieces = st.sampled_from([
    "a: ", "- ", "? ", "[", "]", "{", "}", "&a ", "*a", "!x ", "!!int ", "<<: ", "|\n", ">-\n ", "'", '"',
    "#", "---\n", "...\n", "%YAML 9.9\n", "\n", "  ", "\t", "1:1:1", "1e999", "0x", "2001-1-1", "~",
    "\\ud800", "=", "name", "train", "entry_points", "\ufeff", "\x85",
])  # fmt: skip


@fuzzed
@given(st.lists(yaml_pieces | st.text(max_size=3), max_size=40).map("".join))
def test_texts_that_look_like_yaml(tally: Callable[[int], None], text: str) -> None:
    read(text)
    tally(1)
