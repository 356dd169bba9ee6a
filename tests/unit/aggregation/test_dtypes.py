"""bfloat16 by hand: exact widening, correct rounding. The oracle is exact arithmetic on fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedn.aggregation.dtypes import encode, narrow_bfloat16, widen_bfloat16

WORDS = st.integers(0, 0x7F7F)
"""All finite words without a sign."""


def exact(word: int) -> Fraction:
    """What a bfloat16 word stands for, from the definition: 1 sign, 8 exponent and 7 mantissa bits."""
    exponent, mantissa = (word >> 7) & 0xFF, word & 0x7F
    value = Fraction(mantissa, 128) * Fraction(2) ** -126 if exponent == 0 else 0
    return value or (1 + Fraction(mantissa, 128)) * Fraction(2) ** (exponent - 127) * (exponent > 0)


@given(WORDS)
def test_widening_is_exact(word: int) -> None:
    (wide,) = widen_bfloat16(np.array([word], np.uint16))
    assert Fraction(float(wide)) == exact(word)


@given(WORDS, st.booleans())
def test_every_word_survives_the_round_trip(word: int, negative: bool) -> None:
    words = np.array([word | (0x8000 if negative else 0)], np.uint16)
    np.testing.assert_array_equal(narrow_bfloat16(widen_bfloat16(words)), words)


@given(st.floats(0, 3.3e38, allow_subnormal=True), st.booleans())
def test_rounding_goes_to_the_nearest_word(value: float, negative: bool) -> None:
    (word,) = narrow_bfloat16(np.array([-value if negative else value])).tolist()
    got = word & 0x7FFF
    assert bool(word & 0x8000) == (negative and (value > 0 or str(-value) == "-0.0"))
    error = abs(exact(got) - Fraction(value))
    for neighbour in {max(got - 1, 0), min(got + 1, 0x7F7F)} - {got}:
        other = abs(exact(neighbour) - Fraction(value))
        assert error < other or (error == other and got % 2 == 0)


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (1 + 2**-8, 0x3F80),  # a tie goes to the even word
        (1 + 3 * 2**-8, 0x3F82),
        (1 + 2**-8 + 2**-40, 0x3F81),  # no tie, though it is one as float32
        (1 + 3 * 2**-8 - 2**-40, 0x3F81),
        (3.4e38, 0x7F80),
        (1e300, 0x7F80),
        (-1e300, 0xFF80),
        (np.inf, 0x7F80),
        (1e-300, 0x0000),
        (-0.0, 0x8000),
    ],
)
def test_rounding_at_the_edges(value: float, word: int) -> None:
    assert encode(np.array([value]), "BF16").tolist() == [word]


def test_nan_stays_nan() -> None:
    words = np.array([0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001], np.uint32).view(np.float32)
    assert np.isnan(widen_bfloat16(encode(words, "BF16"))).all()


def test_encoding_never_hands_out_the_array_it_was_given() -> None:
    values = np.ones(3)
    for dtype in ("F16", "BF16", "F32", "F64"):
        assert not np.shares_memory(encode(values, dtype), values)
