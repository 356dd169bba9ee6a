"""What the user's code returned, checked: models with their weight, metrics, nothing else.

`trainer` asks here about an app's results, and `commands` about what a command wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from fedn.domain.errors import InvalidInput
from fedn.domain.update import MAX_EXAMPLES, check_metrics, finite_metrics

Report = tuple[int, Mapping[str, float]]
"""Examples and metrics."""
BEFORE = "before_"


def train_result(what: str, result: Any) -> tuple[Any, int, Mapping[str, float]]:
    """(model, examples, metrics) of what train() returned; raises InvalidInput naming ``what``."""
    if not isinstance(result, tuple) or len(result) not in (2, 3):
        remedy = "return (model, examples) or (model, examples, metrics)"
        raise InvalidInput(what, f"returned {_described(result)}", remedy)
    metrics = result[2] if len(result) == 3 else {}
    return result[0], examples_of(what, result[1]), metrics_of(what, metrics)


def report_result(what: str, result: Any) -> Report:
    """(examples, metrics) of what validate() returned: metrics alone count as one example.

    `fedn run validate` says so to whoever writes the package.
    """
    if isinstance(result, Mapping):
        return 1, metrics_of(what, result)
    if not isinstance(result, tuple) or len(result) != 2:
        remedy = "return (examples, metrics) or a dict of metrics"
        raise InvalidInput(what, f"returned {_described(result)}", remedy)
    return examples_of(what, result[0]), metrics_of(what, result[1])


def check_result(what: str, result: Any) -> Report:
    """As `report_result`; None says that all is well, of no examples."""
    return (0, {}) if result is None else report_result(what, result)


def predict_result(what: str, result: Any) -> Report:
    """(examples, metrics) of what predict() returned: the number of examples, or both."""
    if isinstance(result, tuple):
        return report_result(what, result)
    return examples_of(what, result), {}


def with_before(what: str, metrics: Mapping[str, float], before: Mapping[str, float]) -> Mapping[str, float]:
    """Training metrics and, as before_…, those of the model before; raises InvalidInput for too many."""
    both = {**{f"{BEFORE}{name}": value for name, value in before.items()}, **metrics}
    return metrics_of(what, both)


def _described(result: Any) -> str:
    return f"{len(result)} values" if isinstance(result, tuple) else f"one {type(result).__name__}"


def _number_or_type(value: Any) -> str:
    """What goes to the network of a value that is no good: never a text, which may be of the data."""
    return f"{value:.6g}" if isinstance(value, Real) else f"a {type(value).__name__[:80]}"


def examples_of(what: str, value: Any) -> int:
    """A number of examples from 1 on; raises InvalidInput."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or not 1 <= int(value) <= MAX_EXAMPLES:
        problem = f"returned {_number_or_type(value)} as the number of examples"
        raise InvalidInput(what, problem, f"give a whole number from 1 to {MAX_EXAMPLES}")
    return int(value)


def metrics_of(what: str, metrics: Any) -> Mapping[str, float]:
    """Metrics by name, as floats; those that are not finite are left out. Raises InvalidInput."""
    if not isinstance(metrics, Mapping):
        problem = f"returned metrics of type {type(metrics).__name__}"
        raise InvalidInput(what, problem, "give a dict of name to number")
    for name, value in metrics.items():
        if not isinstance(name, str) or not isinstance(value, Real):
            problem = f"returned {_number_or_type(value)} as a metric"
            raise InvalidInput(what, problem, "metrics are numbers under names")
    try:
        return finite_metrics(check_metrics(metrics))
    except OverflowError:
        raise InvalidInput(what, "returned a metric beyond all numbers", "give a smaller one") from None
