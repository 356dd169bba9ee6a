"""How good a session's models are by its one metric: which is the best, and when there is no hope left.

Pure values and decisions for `machine.py`. Rounds are judged in their order, however their validations come:
one that is still under way holds up those behind it. So the same metrics end a session at the same round.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from fedn.domain.errors import InvalidPlan
from fedn.domain.plan import Plan

USUAL = "accuracy"
"""What models are compared by where the plan names nothing."""


@dataclass(frozen=True, slots=True)
class Score:
    """The clients' example-weighted mean of the metric after a round."""

    round: int
    value: float


@dataclass(frozen=True, slots=True)
class Scores:
    """``best`` of all rounds validated so far; ``judged`` of those that were judged, with how many were not
    better ``since``. The rounds ``ahead`` of a validation that is under way are judged after it.
    """

    best: Score | None = None
    judged: Score | None = None
    since: int = 0
    ahead: tuple[Score, ...] = ()


UNSCORED = Scores()
"""Before the first validation."""


def check_stop(plan: Plan) -> None:
    """Raises InvalidPlan for a session that is to stop by a metric, and never to have any."""
    if plan.stop_metric and not plan.validate:
        remedy = "leave one of the two out"
        raise InvalidPlan("stop_metric", "needs validation, and validate is false", remedy)


def metric_of(plan: Plan) -> str:
    """The metric by which a session's models are compared."""
    return plan.stop_metric or USUAL


def direction_of(plan: Plan) -> str:
    """Whether a higher ('max') or a lower one is better."""
    return plan.stop_direction if plan.stop_metric else "max"


def better(one: Score, than: Score | None, direction: str) -> bool:
    """Whether a score is better; of equal ones the earlier round is."""
    if than is None:
        return True
    gain = one.value - than.value if direction == "max" else than.value - one.value
    return gain > 0 or (gain == 0 and one.round < than.round)


def best_of(means: Mapping[int, float], direction: str) -> Score | None:
    """The best of the means by round; None of none."""
    best: Score | None = None
    for score in (Score(round_, value) for round_, value in means.items() if math.isfinite(value)):
        best = score if better(score, best, direction) else best
    return best


def validated(scores: Scores, plan: Plan, score: Score | None, under_way: Collection[int] = ()) -> Scores:
    """A validation has ended, with a mean of the metric or without one; others are still ``under_way``."""
    direction = direction_of(plan)
    if score is not None and math.isfinite(score.value):
        ahead = tuple(sorted((*scores.ahead, score), key=lambda other: other.round))
        best = score if better(score, scores.best, direction) else scores.best
        scores = replace(scores, ahead=ahead, best=best)
    first_open = min(under_way, default=math.inf)
    while scores.ahead and scores.ahead[0].round < first_open and not worn_out(scores, plan):
        scores = _judge(scores, direction)
    return scores


def _judge(scores: Scores, direction: str) -> Scores:
    score, *ahead = scores.ahead
    if better(score, scores.judged, direction):
        return replace(scores, judged=score, since=0, ahead=tuple(ahead))
    return replace(scores, since=scores.since + 1, ahead=tuple(ahead))


def worn_out(scores: Scores, plan: Plan) -> str:
    """Why the session is to end before its last round; '' while it is not."""
    if not plan.stop_metric or scores.judged is None or scores.since < plan.stop_patience:
        return ""
    rounds = "1 round" if scores.since == 1 else f"{scores.since} rounds"
    return (
        f"stopped early: {plan.stop_metric} was not better than {scores.judged.value:.4g} "
        f"(round {scores.judged.round}) for {rounds}"
    )


def never_seen(scores: Scores, plan: Plan) -> str:
    """What to say of a session that ran through because its metric never came; '' if it came."""
    if not plan.stop_metric or scores.best is not None:
        return ""
    return f"no client ever reported {plan.stop_metric}, by which it might have stopped early"
