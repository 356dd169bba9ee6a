"""What a combiner says is checked before it names a file or asks for room."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fedn.client.hearing import check_told
from fedn.domain import messages as m
from fedn.domain.errors import InvalidInput
from fedn.domain.ids import CombinerName, Digest, Incarnation, SessionId

DIGEST = Digest("a" * 64)
S = SessionId("s-1")
TASK = m.Task(S, 1, m.TaskKind.PREDICT, DIGEST, 10, "{}", 0, b"", DIGEST, 20)


@pytest.mark.parametrize(
    "message",
    [
        m.Welcome(1, CombinerName("c"), Incarnation("i"), 1.0),
        TASK,
        replace(TASK, package="", package_size=0, round=0, kind=m.TaskKind.CHECK),
        m.Settled(S, 1, True, ""),
        m.Granted(S, 1, DIGEST, "g", 0),
    ],
)
def test_what_an_honest_combiner_says_is_taken(message: m.CombinerMessage) -> None:
    check_told(message)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"session": "/etc/evil"}, "session"),
        ({"session": "s-1/../../evil"}, "session"),
        ({"round": -1}, "round"),
        ({"model": "../../evil"}, "model"),
        ({"model_size": 2**60}, "model_size"),
        ({"package": "../evil"}, "package"),
        ({"package_size": 2**40}, "package_size"),
        ({"package_size": 0}, "package_size"),
    ],
)
def test_what_leads_elsewhere_or_fills_the_disk_is_refused(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput, match=field):
        check_told(replace(TASK, **changes))


@pytest.mark.parametrize(
    "message",
    [
        m.Settled(SessionId("../x"), 1, True, ""),
        m.Reoffer(SessionId("a/b"), 1),
        m.TaskCancelled(SessionId(""), 1, m.TaskKind.TRAIN, ""),
        m.Granted(S, 1, Digest("x"), "g", 0),
        m.UpdateRefused(S, 1, Digest("../x"), "code", "reason"),
    ],
)
def test_so_are_the_other_messages(message: m.CombinerMessage) -> None:
    with pytest.raises(InvalidInput):
        check_told(message)
