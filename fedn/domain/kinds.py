"""What a file is that somebody took for a model, by how it begins. Nothing is opened and nothing believed.

`model` asks when a header is none, so that the refusal names what was given.
"""

from __future__ import annotations

START_BYTES = 512
"""So much of a file tells its kind; less tells less."""

LOAD_IT = "write a function that loads it and returns the model: `fedn model seed --from my_model.py:load`"
_FETCH = "download it again: `curl -L`, and the token that the site wants"

_STARTS: tuple[tuple[bytes, str, str], ...] = (
    (b"\x89HDF\r\n\x1a\n", "is HDF5, such as Keras' .h5", LOAD_IT),
    (b"\x93NUMPY", "is one array of numpy's (.npy)", LOAD_IT),
    (b"\x89PNG", "is an image (PNG)", ""),
    (b"\xff\xd8\xff", "is an image (JPEG)", ""),
    (b"GIF8", "is an image (GIF)", ""),
    (b"%PDF", "is a PDF", ""),
    (b"GGUF", "is a GGUF file of quantized weights", "take the model's safetensors file"),
    (b"\x1f\x8b", "is compressed with gzip", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstandard", "unpack it first"),
    (b"version https://git-lfs", "is a pointer of Git LFS, not the file itself", "`git lfs pull` gets that"),
    (b"<!doc", "is a web page", _FETCH),
    (b"<html", "is a web page", _FETCH),
)
_ZIP, _ZIP_NAME = b"PK\x03\x04", 30
_PICKLE = b"\x80"


def kind_of(start: bytes) -> tuple[str, str]:
    """(what a file is that begins so, what to do about it), both without a full stop; ('', '') if unknown.

    The eight bytes before a header are enough for most.
    """
    start = start[:START_BYTES]
    if start.startswith(_ZIP):
        return _zip_kind(start)
    if start[:1] == _PICKLE and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "is a pickle, such as PyTorch's old .pt or joblib's; those are never opened here", LOAD_IT
    if start[257:262] == b"ustar":
        return "is a tar archive, such as a compute package", "that goes up with `fedn package upload`"
    for begins, what, remedy in _STARTS:
        if start.lower().startswith(begins.lower()):
            return what, remedy or "give the model's safetensors file"
    return "", ""


def _zip_kind(start: bytes) -> tuple[str, str]:
    """By the name of the first file in it, where so much of it is there."""
    length = int.from_bytes(start[26:28], "little")
    name = start[_ZIP_NAME : _ZIP_NAME + length]
    if name.endswith(b".npy"):
        return "is a zip archive of arrays, numpy's .npz", LOAD_IT
    if name.endswith(b"/data.pkl"):
        return (
            "is a zip archive that torch.save() wrote, with a pickle in it; those are never opened here",
            LOAD_IT,
        )
    if name == b"metadata.json":
        return "is a zip archive that Keras wrote (.keras)", LOAD_IT
    return "is a zip archive, such as numpy's .npz, PyTorch's .pt or Keras' .keras", LOAD_IT
