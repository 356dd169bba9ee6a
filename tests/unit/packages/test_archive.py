"""Archives from anybody: plain ones are read, all others are refused before a byte is written."""

from __future__ import annotations

import gzip
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from package_files import FILES, archive, member, write

from fedn.domain.errors import Conflict, Damaged, InvalidInput, StoreUnavailable
from fedn.domain.ids import digest_of
from fedn.packages import archive as archives
from fedn.packages.archive import extract, inspect, remove, verify
from fedn.packages.members import MAX_BYTES, MAX_FILES

GOOD = archive()


def refused(data: bytes, tmp_path: Path) -> str:
    """What is said about an archive; nothing of it is written."""
    with pytest.raises(InvalidInput) as caught:
        extract(data, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InvalidInput):
        inspect(data)
    assert len(caught.value.message) < 2000
    return caught.value.message


# --- good ones -------------------------------------------------------------------------------------


def test_what_is_in_it(tmp_path):
    file = tmp_path / "p.tar"
    file.write_bytes(GOOD)
    for source in (GOOD, bytearray(GOOD), memoryview(GOOD), file):
        package = inspect(source)
        assert (package.digest, package.size) == (digest_of(GOOD), len(GOOD))
        assert package.manifest.name == "mnist-keras"
        assert [member.path for member in package.files] == list(FILES)
        sizes = {member.path: member.size for member in package.files}
        assert sizes == {path: len(content) for path, content in FILES.items()}


@pytest.mark.parametrize(
    "options", [[], ["--format=gnu"], ["--format=ustar"], ["--format=pax"], ["--format=v7"]], ids=str
)
def test_tars_of_other_programs_are_read(tmp_path, options):
    long = {} if "v7" in str(options) else {"d" * 60 + "/" + "f" * 90: "long"}
    folder = write(tmp_path / "in", {**FILES, **long})
    done = subprocess.run(["tar", "-c", *options, "-C", folder, "."], capture_output=True, check=True)
    extract(done.stdout, tmp_path / "out")
    for path, content in {**FILES, **long}.items():
        assert (tmp_path / "out" / path).read_text() == content
    assert os.access(tmp_path / "out/tools/prepare.sh", os.X_OK)


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_names_that_need_extended_headers_are_read(kind):
    files = {**FILES, "é" * 40 + "/" + "x" * 99: "", "plain": ""}
    assert [m.path for m in inspect(archive(files, kind=kind)).files] == list(files)


# --- where it is unpacked --------------------------------------------------------------------------


def test_it_is_unpacked_for_reading_alone_and_can_be_removed(tmp_path):
    target = tmp_path / "deep" / "out"
    assert extract(GOOD, target, digest_of(GOOD)).manifest.name == "mnist-keras"
    found = {str(p.relative_to(target)): p for p in target.rglob("*")}
    assert sorted(found) == sorted([*FILES, "tools"])
    assert {p.stat().st_mode & 0o222 for p in [*found.values(), target]} == {0}
    assert [p.name for p in target.parent.iterdir()] == ["out"]
    remove(target)
    remove(target)
    assert list(target.parent.iterdir()) == []


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(Conflict, match="is there already"):
        extract(GOOD, tmp_path / "out")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(Conflict):
        extract(GOOD, tmp_path / "link")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["link", "mine", "out"]


def test_a_folder_that_came_meanwhile_is_left_alone(tmp_path, monkeypatch):
    def interfere(root: Path) -> None:
        extract(archive({**FILES, "app.py": "other"}), tmp_path / "out")

    with monkeypatch.context() as patch:
        patch.setattr(archives, "_finish", lambda root: (patch.undo(), interfere(root)))
        with pytest.raises(Conflict, match="is there already"):
            extract(GOOD, tmp_path / "out")
    assert (tmp_path / "out/app.py").read_text() == "other"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_what_a_dead_process_left_goes_after_an_hour(tmp_path):
    old, young, others = (tmp_path / f".{n}.unpacking" for n in ("out.0123", "out.4567", "else.89ab"))
    for folder in (old, young, others):
        write(folder, FILES)
    for folder in (old, others):
        os.utime(folder, (1e9, 1e9))
    extract(GOOD, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        ".else.89ab.unpacking",
        ".out.4567.unpacking",
        "out",
    ]


def test_a_place_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="file"):
        extract(GOOD, tmp_path / "file" / "out")


# --- digests ---------------------------------------------------------------------------------------


def test_another_digest_is_refused_before_anything_is_read(tmp_path):
    assert verify(GOOD, digest_of(GOOD)).digest == digest_of(GOOD)
    assert verify(GOOD).digest == digest_of(GOOD)
    for data in (GOOD[:-1], b"rubbish"):
        with pytest.raises(Damaged, match=f"has digest {digest_of(data)}, not {digest_of(GOOD)}"):
            verify(data, digest_of(GOOD))
        with pytest.raises(Damaged):
            extract(data, tmp_path / "out", digest_of(GOOD))
    with pytest.raises(InvalidInput, match="not a sha256"):
        verify(GOOD, "abc")
    assert list(tmp_path.iterdir()) == []


# --- bad ones --------------------------------------------------------------------------------------


def test_a_package_has_a_manifest(tmp_path):
    assert "has no fedn.yaml" in refused(archive({"app.py": ""}), tmp_path)
    deeper = refused(archive({"my/fedn.yaml": "", "my/app.py": ""}), tmp_path)
    assert "in my/, not at the top" in deeper
    assert "fedn package create my" in deeper
    wrong = FILES["fedn.yaml"].replace("train:", "trian:")
    assert "fedn.yaml: entry_points.trian" in refused(archive({**FILES, "fedn.yaml": wrong}), tmp_path)
    without = {path: content for path, content in FILES.items() if path != "app.py"}
    assert "the package has neither app.py nor app/__init__.py" in refused(archive(without), tmp_path)


@pytest.mark.parametrize(
    "path",
    ["../evil", "a/../../evil", "/etc/evil", "//evil", "a//b", "a/./b", "..", "a/..", "a\\..\\b", "C:\\x",
     "a\nb", "a\x1b[2J", "a/", "\u202e", "x" * 256, "d/" * 32 + "f", "y/" * 300 + "f", ""],
)  # fmt: skip
@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_paths_that_lead_elsewhere_or_are_odd_are_refused(tmp_path, path, kind):
    assert refused(archive({**FILES, path: "evil"}, kind=kind), tmp_path).startswith("package: ")
    folder = member(path, tarfile.DIRTYPE)
    if path not in ("", "a/"):  # of a folder these two are harmless
        refused(archive(FILES, folder, kind=kind), tmp_path)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (tarfile.SYMTYPE, "is a link"), (tarfile.LNKTYPE, "is a link"), (tarfile.CHRTYPE, "is a device"),
        (tarfile.BLKTYPE, "is a device"), (tarfile.FIFOTYPE, "is a pipe"),
        (tarfile.GNUTYPE_SPARSE, "is a sparse file"), (tarfile.CONTTYPE, "is not a file"),
        (b"Z", "is not a file"),
    ],
)  # fmt: skip
def test_links_and_special_files_are_refused_by_their_name(tmp_path, kind, words):
    odd = member("app", kind, linkname="../../etc/passwd")
    assert f"package: app: {words}" in refused(archive(FILES, odd), tmp_path)


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_a_long_target_of_a_link_changes_nothing(tmp_path, kind):
    odd = member("app", tarfile.SYMTYPE, linkname="../" * 60)
    assert "package: " in refused(archive(FILES, odd, kind=kind), tmp_path)


def test_each_name_is_there_once(tmp_path):
    twice = archive(FILES).rstrip(b"\0")
    twice += bytes(-len(twice) % 512) + archive(FILES)
    assert "is there twice" in refused(twice, tmp_path)
    assert "is the same as app.py" in refused(archive({**FILES, "App.py": ""}), tmp_path)
    assert "is the same as" in refused(archive({**FILES, "caf\u00e9": "", "cafe\u0301": ""}), tmp_path)
    assert "is a file and a folder" in refused(archive({**FILES, "app.py/x": ""}), tmp_path)
    assert "is a file and a folder" in refused(archive({**FILES, "tools": ""}), tmp_path)


@pytest.mark.parametrize(
    "headers",
    [{"size": "5"}, {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}, {"linkpath": "/etc"},
     {"hdrcharset": "BINARY"}, {"comment": "x" * 20_000}],
    ids=lambda headers: next(iter(headers)),
)  # fmt: skip
def test_extended_headers_say_little(tmp_path, headers):
    assert "extended header" in refused(archive(FILES, member("x", pax_headers=headers)), tmp_path)


def test_global_headers_name_nothing(tmp_path):
    def with_global(**headers: str) -> bytes:
        return tarfile.TarInfo.create_pax_global_header(headers) + GOOD

    assert inspect(with_global(comment="a commit, as git archive writes it")).manifest.name == "mnist-keras"
    assert "'path'" in refused(with_global(path="app.py"), tmp_path)


@pytest.mark.parametrize(
    "record",
    [b"7 a=b\n", b"99 a=b\n", b"0 a=b\n", b"-6 a=b\n", b"6 a=b ", b"5 ab\n", b"9" * 9, b"2 \n",
     b"13 path=\xff\xfe..\n"],
)  # fmt: skip
def test_extended_headers_are_read_exactly(tmp_path, record):
    info = member("x", tarfile.XHDTYPE, size=len(record))
    data = info.tobuf(tarfile.USTAR_FORMAT) + record + bytes(-len(record) % 512) + GOOD
    assert "extended header" in refused(data, tmp_path)


@pytest.mark.parametrize("name", [b"", b"x", b"x\0\0", b"x\0y\0", b"\xff\0"])
def test_long_names_are_read_exactly(tmp_path, name):
    info = member("x", tarfile.GNUTYPE_LONGNAME, size=len(name))
    data = info.tobuf(tarfile.GNU_FORMAT) + name + b"y" * (512 - len(name)) + GOOD
    assert refused(data, tmp_path).startswith("package: has a")


def test_a_member_is_named_once(tmp_path):
    long = archive({"x" * 200: ""}, kind=tarfile.GNU_FORMAT)[:1024]
    pax = archive({"é": ""})[:1024]
    for headers in (long + long, pax + pax, long + pax):
        assert "two extended headers that name one file" in refused(headers + GOOD, tmp_path)


def test_one_extended_header_after_the_other_is_refused(tmp_path):
    header = member("x", tarfile.XHDTYPE).tobuf(tarfile.USTAR_FORMAT)
    inspect(header * 4 + GOOD)
    assert "too many" in refused(header * 5 + GOOD, tmp_path)
    assert "ends with an extended header" in refused(header + bytes(1024), tmp_path)


@pytest.mark.parametrize("size", [2**40, -1, -512, 10_000])
def test_sizes_that_are_not_there_are_refused(tmp_path, size):
    lying = member("x", size=size).tobuf(tarfile.GNU_FORMAT) + GOOD
    assert "package: is cut off" in refused(lying, tmp_path)


def test_an_archive_that_is_not_whole_is_refused(tmp_path):
    end = len(GOOD.rstrip(b"\0"))
    end += -end % 512
    inspect(GOOD[: end + 512])
    for cut in (end, end - 1, end - 512, 512, 511, 1):
        assert "package: " in refused(GOOD[:cut], tmp_path)
    assert "no tar archive" in refused(b"", tmp_path)
    assert "no tar archive" in refused(b"PK\x03\x04" + bytes(1000), tmp_path)
    assert "goes on behind its end" in refused(GOOD + GOOD, tmp_path)
    assert "is compressed — give the plain tar" in refused(gzip.compress(GOOD), tmp_path)


def test_what_is_too_large_is_refused(tmp_path):
    assert "at most 67108864" in refused(GOOD + bytes(MAX_BYTES), tmp_path)
    (tmp_path / "big.tar").write_bytes(b"")
    os.truncate(tmp_path / "big.tar", 2**40)
    with pytest.raises(InvalidInput, match="at most 67108864"):
        inspect(tmp_path / "big.tar")
    with pytest.raises(InvalidInput, match="can't be read"):
        inspect(tmp_path / "nowhere.tar")
    (tmp_path / "big.tar").unlink()
    many = {f"d/{n}": "" for n in range(MAX_FILES)}
    assert "more than 10000 files" in refused(archive({**FILES, **many}), tmp_path)
