"""What is no model is named by its first bytes, however few of them there are."""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile

import pytest

from fedn.domain.errors import InvalidModel
from fedn.domain.kinds import START_BYTES, kind_of
from fedn.domain.model import PREFIX_BYTES, header_bytes, layout_of


def small_tar() -> bytes:
    """Its one name is so short that its first bytes could announce a header."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    return made.getvalue()


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (gzip.compress(b"x" * 999, mtime=0), "is compressed with gzip"),
        (small_tar(), "is a tar archive"),
        (pickle.dumps([1.0] * 99), "is a pickle"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF\0" + bytes(99), "is an image"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
        (b"<html><body>Sign in</body></html>", "is a web page"),
        (b"PK\x03\x04" + bytes(22) + b"\xff\xff", "is a zip archive"),  # a name longer than the file
    ],
    ids=["gzip", "tar", "pickle", "jpeg", "lfs", "html", "zip"],
)
def test_a_file_that_is_no_model_is_named(file: bytes, words: str) -> None:
    with pytest.raises(InvalidModel, match=words):
        layout_of(file)


@pytest.mark.parametrize(
    "start", [b"PK\x03\x04\x14\0\0\0", b"\x89HDF\r\n\x1a\n", b"\x80\x04\x95\x2c\0\0\0\0"]
)
def test_eight_bytes_are_enough_for_what_people_mistake_for_a_model(start: bytes) -> None:
    with pytest.raises(InvalidModel, match="and not safetensors"):
        header_bytes(start)


def test_a_model_is_never_taken_for_something_else() -> None:
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    for length in (0x088B1F, 97, len(header)):  # as gzip and a short tar begin
        file = length.to_bytes(PREFIX_BYTES, "little") + header.ljust(length)
        assert header_bytes(file[:START_BYTES]) == length
    assert kind_of(b"") == kind_of(b"\0" * 600) == ("", "")
