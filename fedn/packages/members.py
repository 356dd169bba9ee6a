"""The members of a tar from strangers, header by header; nothing is unpacked and nothing is believed.

Python's `tarfile` reads single headers here, and what they may say is narrow: regular files and folders,
with the names that `paths` allows. Written by us it is a plain pax archive; those of other programs are
read too, as long as they are that plain. `archive` takes it from here.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fedn.domain.errors import InvalidInput
from fedn.packages.paths import Names, check_path, refused

BLOCK = tarfile.BLOCKSIZE
MAX_FILES = 10_000
"""Files and folders of one package."""
MAX_BYTES = 64 * 2**20
"""Of a whole archive, which is not compressed: unpacked it holds less."""
MAX_EXTENDED_BYTES = 16 * 2**10
"""Of one extended header: a long name, times, owners."""

_END = bytes(BLOCK)
_KINDS = {
    tarfile.LNKTYPE: "a link", tarfile.SYMTYPE: "a link", tarfile.GNUTYPE_LONGLINK: "a link",
    tarfile.CHRTYPE: "a device", tarfile.BLKTYPE: "a device", tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}  # fmt: skip
_LENGTH = re.compile(rb"([1-9][0-9]{0,5}) ")
_IGNORED = re.compile(r"(mtime|atime|ctime|uid|gid|uname|gname|comment|LIBARCHIVE\..*|SCHILY\..*)\Z", re.S)
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")  # gzip, bzip2, xz, zstandard
_PLAIN = "make the archive with `fedn package create`"
NO_TAR = "is no tar archive"
_SMALLER = "leave data and results out of it, with a .fednignore"


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive: its bytes are ``size`` many from ``offset`` on."""

    path: str
    size: int
    executable: bool
    offset: int


def members(archive: memoryview) -> Iterator[Member]:
    """The files of a tar, in its order.

    Raises:
        InvalidInput: at the first member that is not a plain file or folder with an allowed name of its
            own, and at a header that says more than it may, or an archive that is cut off or too large.
    """
    if len(archive) > MAX_BYTES:
        raise damaged(f"has {len(archive)} bytes; a package has at most {MAX_BYTES}", _SMALLER)
    if bytes(archive[:6]).startswith(_COMPRESSED):
        raise damaged("is compressed", "give the plain tar")
    names, count = Names(), 0
    for header, extended, offset in _headers(archive):
        path = check_header(header, extended)
        if header.isdir() and path in (".", ""):  # what `tar -C folder .` begins with
            continue
        names.add(check_path(path), folder=header.isdir())
        count += 1
        if count > MAX_FILES:
            raise damaged(f"holds more than {MAX_FILES} files and folders", _SMALLER)
        if not header.isdir():
            yield Member(path, header.size, bool(header.mode & 0o100), offset)


def damaged(problem: str, remedy: str = _PLAIN) -> InvalidInput:
    """What is said about an archive as a whole."""
    return InvalidInput("package", problem, remedy)


def check_header(header: tarfile.TarInfo, extended: Mapping[str, str]) -> str:
    """The path of a file or folder; raises InvalidInput for anything else."""
    path = extended.get("path", header.name)
    if not (header.type in (tarfile.REGTYPE, tarfile.AREGTYPE) or header.isdir()):
        raise refused(path, f"is {_KINDS.get(header.type, 'not a file')}", "give files and folders alone")
    if header.isdir():
        if header.size:
            raise refused(path, "is a folder with bytes of its own", _PLAIN)
        path = path.rstrip("/") or path[:1]
    while path.startswith("./"):
        path = path[2:]
    return path


def _headers(archive: memoryview) -> Iterator[tuple[tarfile.TarInfo, Mapping[str, str], int]]:
    """Every header that stands for something, what extended ones before it say, and where its bytes begin."""
    position, since = 0, 0
    extended: Mapping[str, str] = {}
    while (block := bytes(archive[position : position + BLOCK])) != _END:
        header = _header(block, position)
        position += BLOCK
        if not 0 <= header.size <= len(archive) - position:
            raise damaged("is cut off")
        data = archive[position : position + header.size]
        if header.type in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME):
            since += 1
            if since > 4 or header.size > MAX_EXTENDED_BYTES:
                raise damaged(f"has extended headers of over {MAX_EXTENDED_BYTES} bytes, or too many")
            said = _extended(header.type, bytes(data))
            if said and extended:
                raise damaged("has two extended headers that name one file")
            extended = {**extended, **said}
        else:
            yield header, extended, position
            extended, since = {}, 0
        position += -(-header.size // BLOCK) * BLOCK
    if since:
        raise damaged("ends with an extended header")
    if bytes(archive[position:]).strip(b"\0"):
        raise damaged("goes on behind its end")


def _header(block: bytes, position: int) -> tarfile.TarInfo:
    if len(block) < BLOCK:
        raise damaged("is cut off" if position else NO_TAR)
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.HeaderError, ValueError):  # letters that are not UTF-8, too
        raise damaged(f"has a header at byte {position} that can't be read" if position else NO_TAR) from None


def _extended(kind: bytes, data: bytes) -> Mapping[str, str]:
    """What an extended header says of the path of the next member; all else in it must be harmless."""
    try:
        if kind == tarfile.GNUTYPE_LONGNAME:
            # Some readers look for the end of the name, others at its length: here both agree.
            if not 0 < data.find(b"\0") == len(data) - 1:
                raise damaged("has a long name that does not end where it says")
            return {"path": data[:-1].decode()}
        said = {key.decode(): value for key, value in _records(data)}
        unknown = [key for key in said if key != "path" and not _IGNORED.match(key)]
        if unknown or (kind == tarfile.XGLTYPE and "path" in said):
            raise damaged(f"says {(unknown or ['path'])[0][:80]!r} in an extended header")
        return {"path": said["path"].decode()} if "path" in said else {}
    except UnicodeDecodeError:
        raise damaged("has an extended header that is not UTF-8") from None


def _records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 0
    while position < len(data):
        length = _LENGTH.match(data, position)
        end = position + int(length[1]) if length else 0
        if length is None or not length.end() < end <= len(data) or data[end - 1] != 0x0A:
            raise damaged("has an extended header that can't be read")
        key, equals, value = data[length.end() : end - 1].partition(b"=")
        if not equals:
            raise damaged("has an extended header that can't be read")
        yield key, value
        position = end
