"""safetensors' dtypes in numpy's terms: casts that round correctly, and which numbers can be summed.

Shared by `blocks` and `write` (pieces of a model) and by `fedn.helpers.files` (whole tensors). bfloat16,
which numpy lacks, is handled as uint16 words: the upper halves of float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fedn.ports import Buffer

Array = npt.NDArray[Any]

NUMPY_DTYPES: Mapping[str, str] = {
    "BOOL": "|b1", "U8": "|u1", "I8": "|i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4",
    "U64": "<u8", "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8",
}  # fmt: skip
"""safetensors' words in numpy's; BF16 has none."""

SUMMABLE_F64_EXPONENT = 960
"""A float64 of 2^960 or more counts as infinite: times a weight of 2^40, over 2^20 clients, the sum of
smaller ones stays below 2^1024. The narrower dtypes can't reach it."""


@dataclass(frozen=True, slots=True)
class _Bits:
    """A dtype seen as unsigned integers: safe exactly where ``word & mask`` is below ``limit``."""

    word: str
    mask: int
    limit: int


_BITS: Mapping[str, _Bits] = {
    "F16": _Bits("<u2", 0x7C00, 0x7C00),
    "BF16": _Bits("<u2", 0x7F80, 0x7F80),
    "F32": _Bits("<u4", 0x7F80_0000, 0x7F80_0000),
    "F64": _Bits("<u8", 0x7FF0_0000_0000_0000, (SUMMABLE_F64_EXPONENT + 1023) << 52),
}


def first_unsafe(raw: Buffer | Array, dtype: str) -> int:
    """Byte offset of the first NaN, infinity or float64 of 2^960 or more in ``raw``; -1 if none."""
    bits = _BITS[dtype]
    exponents = np.frombuffer(raw, bits.word) & np.array(bits.mask, bits.word)
    if exponents.size == 0 or exponents.max() < bits.limit:
        return -1
    first = int(np.argmax(exponents >= bits.limit))
    return first * int(exponents.itemsize)


def floats(raw: Buffer, dtype: str) -> Array:
    """The float numbers in ``raw``; a view, except that BF16 is widened to float32."""
    if dtype == "BF16":
        return widen_bfloat16(np.frombuffer(raw, "<u2"))
    return np.frombuffer(raw, NUMPY_DTYPES[dtype])


def encode(values: Array, dtype: str) -> Array:
    """``values`` in a new array of a float ``dtype``, rounded to nearest even; BF16 as uint16 words.

    Numbers beyond the dtype's range become infinite, silently: see `first_unsafe`.
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if dtype == "BF16":
            return narrow_bfloat16(values)
        return values.astype(NUMPY_DTYPES[dtype])


def widen_bfloat16(words: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """The float32 numbers that bfloat16 ``words`` stand for; exact."""
    return (words.astype(np.uint32) << np.uint32(16)).view(np.float32)


def narrow_bfloat16(values: Array) -> npt.NDArray[np.uint16]:
    """Correctly rounded (nearest, ties to even) bfloat16 words of float numbers up to float64.

    Goes through float32 rounded to odd, since rounding to nearest twice can miss by one word
    (Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums", 2008, section III).
    """
    exact = np.asarray(values, np.float64)
    nearest = exact.astype(np.float32)
    bits = nearest.view(np.uint32).copy()
    bits -= np.abs(nearest) > np.abs(exact)
    bits |= nearest != exact
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    # Rounding could carry a NaN's payload into its sign, so NaN has a word of its own.
    return np.where(np.isnan(exact), np.uint32(0x7FC0), rounded).astype(np.uint16)
