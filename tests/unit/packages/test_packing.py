"""A folder becomes an archive: always the same one, of what belongs into it."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import tarfile
from hashlib import sha256

import pytest
from package_files import FILES, write

from fedn.domain.errors import InvalidInput
from fedn.packages.archive import extract, inspect, pack
from fedn.packages.packing import survey

SMALL = {"fedn.yaml": "name: small\nentry_points: {train: sh train.sh}\n", "train.sh": "exit 1\n"}
GOLDEN = "0d9e6f6d7f9d0b3a1e8a4f7d5b0c2e1f"


def packed(root) -> bytes:
    return b"".join(pack(root))


def names(root) -> list[str]:
    return [file.path for file in survey(root).files]


def test_the_same_files_give_the_same_bytes(tmp_path):
    first = write(tmp_path / "a")
    second = write(tmp_path / "b", dict(reversed(FILES.items())))
    for path in second.rglob("*"):
        os.utime(path, (1e9, 2e9))
    (second / "app.py").chmod(0o600)
    (second / "empty").mkdir()
    assert packed(first) == packed(second)
    assert len(packed(first)) == survey(first).size


def test_the_bytes_are_those_of_yesterday_too(tmp_path):
    """A new Python may write another tar: then packages that people have pinned would change."""
    files = {**SMALL, "naïve/модель.txt": "é", "long/" + "x" * 120: b"\0" * 513}
    digest = sha256(packed(write(tmp_path, files))).hexdigest()
    assert digest == "52864c420022f1b70aaea39222e6bdf7bc416f533de2dfd1369e76fb3226194e"


def test_what_was_packed_comes_out_as_it_went_in(tmp_path):
    files = {**FILES, "naïve/модель.txt": "é", "long/" + "x" * 120: os.urandom(3000), "none": ""}
    data = packed(write(tmp_path / "in", files))
    package = inspect(data)
    assert package.digest == sha256(data).hexdigest()
    assert [file.path for file in package.files] == sorted(files, key=str.encode)
    extract(data, tmp_path / "out")
    for path, content in files.items():
        expected = content.encode() if isinstance(content, str) else content
        assert (tmp_path / "out" / path).read_bytes() == expected
    assert (tmp_path / "out/tools/prepare.sh").stat().st_mode & 0o777 == 0o555
    assert (tmp_path / "out/app.py").stat().st_mode & 0o777 == 0o444
    assert packed(tmp_path / "out") == data


def test_other_programs_can_read_it(tmp_path):
    data = packed(write(tmp_path / "in"))
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-x", "-C", tmp_path / "out"], input=data, check=True)
    assert packed(tmp_path / "out") == data
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in tar} == {(0, 0, 0, "", "")}


# --- what is left out ------------------------------------------------------------------------------


def test_leavings_are_left_out(tmp_path):
    clutter = [".git/config", "deep/.git", ".venv/bin/python", "__pycache__/app.cpython-311.pyc", "x.pyc",
               ".DS_Store", "deep/__pycache__/y", ".fednignore", ".pytest_cache/v"]  # fmt: skip
    write(tmp_path, {**SMALL, **dict.fromkeys(clutter, ""), "deep/kept.txt": ""})
    (tmp_path / ".venv/lib64").symlink_to("/nowhere")
    (tmp_path / ".fednignore").write_text("!.git\n!*.pyc\n")
    assert names(tmp_path) == ["deep/kept.txt", "fedn.yaml", "train.sh"]


def test_a_fednignore_is_read_as_a_gitignore(tmp_path):
    write(
        tmp_path,
        {**SMALL, "data/a.csv": "", "data/README": "", "b.csv": "", "keep.csv": "", "src/data/x": ""},
    )
    (tmp_path / ".fednignore").write_text("# private\n*.csv\n!keep.csv\n/data/\n")
    assert names(tmp_path) == ["fedn.yaml", "keep.csv", "src/data/x", "train.sh"]
    (tmp_path / ".fednignore").write_text("!\n")
    with pytest.raises(InvalidInput, match=r"\.fednignore: can't be read"):
        survey(tmp_path)


def test_python_that_is_left_out_is_not_there(tmp_path):
    write(tmp_path)
    (tmp_path / ".fednignore").write_text("app.py\n")
    with pytest.raises(InvalidInput, match=r"entry_points\.startup: the package has neither app\.py"):
        survey(tmp_path)


# --- what is refused -------------------------------------------------------------------------------


def test_links_and_special_files_are_refused_by_name(tmp_path):
    def refuse(name: str, words: str) -> None:
        with pytest.raises(InvalidInput, match=f"package: {name}: {words}.* or name it in .fednignore"):
            survey(tmp_path)
        (tmp_path / name).unlink()
        survey(tmp_path)

    write(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "app.py")
    refuse("link", "is a link")
    (tmp_path / "tools/folder").symlink_to("/etc")
    refuse("tools/folder", "is a link")
    os.mkfifo(tmp_path / "pipe")
    refuse("pipe", "is not a file")
    door = socket.socket(socket.AF_UNIX)
    door.bind(str(tmp_path / "door"))
    door.close()
    refuse("door", "is not a file")


@pytest.mark.parametrize("name", ["a\nb", "a\\b", "\u2028", "\udcff"])
def test_odd_names_are_refused(tmp_path, name):
    (write(tmp_path) / name).write_text("")
    with pytest.raises(InvalidInput, match=r"^package: "):
        survey(tmp_path)


def test_names_that_differ_in_case_alone_are_refused(tmp_path):
    write(tmp_path, {**SMALL, "Data/a": "", "data/b": ""})
    with pytest.raises(InvalidInput, match="package: data: is the same as Data"):
        survey(tmp_path)


def test_a_folder_that_is_too_large_is_refused_with_the_largest_files(tmp_path):
    with (write(tmp_path, SMALL) / "mnist.npz").open("wb") as file:
        file.truncate(64 * 2**20)
    with pytest.raises(InvalidInput, match=r"at most 67108864 — .*\.fednignore; the largest are mnist\.npz"):
        survey(tmp_path)


def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path):
    folder = survey(write(tmp_path))
    for content in ("", "x" * 1000):
        (tmp_path / "app.py").write_text(content)
        with pytest.raises(InvalidInput, match=r"package: app\.py: changed while it was read"):
            list(folder.chunks())
    (tmp_path / "app.py").unlink()
    (tmp_path / "app.py").symlink_to("/etc/hostname")
    with pytest.raises(InvalidInput, match=r"app\.py: can't be read"):
        list(folder.chunks())


def test_a_folder_without_a_manifest_is_no_package(tmp_path):
    with pytest.raises(InvalidInput, match=r"has no fedn\.yaml"):
        pack(tmp_path)
    with pytest.raises(InvalidInput, match="is not a folder"):
        pack(tmp_path / "nowhere")
