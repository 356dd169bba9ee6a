from __future__ import annotations

import math

import pytest

from fedn.domain.errors import InvalidInput
from fedn.domain.ids import Digest, SessionId
from fedn.domain.round import ValidationSpec, check_deadline


def spec(deadline: float) -> ValidationSpec:
    return ValidationSpec(1, SessionId("s"), 1, Digest("0" * 64), 1, (), "{}", 0, deadline)


@pytest.mark.parametrize("seconds", [0.0, 0.1, 604_800.0, 1e308])
def test_a_time_that_comes_is_a_deadline(seconds: float) -> None:
    check_deadline(spec(seconds))


@pytest.mark.parametrize("seconds", [math.nan, -math.nan, math.inf, -math.inf, -1.0])
def test_what_never_comes_is_none(seconds: float) -> None:
    with pytest.raises(InvalidInput, match="deadline"):
        check_deadline(spec(seconds))
