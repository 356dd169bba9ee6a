"""docs/operations.md lists every setting as it is; this file, run with Python, writes the lists anew."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from fedn.combiner.counts import Measured, UpdateCounts
from fedn.combiner.prometheus import Numbers as CombinerMetrics
from fedn.config import TIERS
from fedn.domain.messages import Gauge
from fedn.reducer.network import NetworkView
from fedn.reducer.prometheus import Reducer as ReducerMetrics

DOC = Path(__file__).parents[2] / "docs" / "operations.md"


def listed(tier: str) -> str:
    rows = [
        f"| `{name}` | {shown(field.get_default())} | {field.description} |"
        for name, field in TIERS[tier].model_fields.items()
    ]
    return "\n".join(["| setting | default | what |", "|---|---|---|", *rows])


def shown(default: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    empty = isinstance(default, SecretStr) or str(default) in ("", "[]", "{}")
    return "" if empty else f"`{default}`"


def block(tier: str) -> re.Pattern[str]:
    return re.compile(f"<!-- settings of the {tier} -->\n(.*?)<!-- end -->", re.DOTALL)


@pytest.mark.parametrize("tier", TIERS)
def test_every_setting_is_listed_as_it_is(tier: str) -> None:
    [found] = block(tier).findall(DOC.read_text(encoding="utf-8"))
    assert found == listed(tier) + "\n", "python tests/unit/test_operations_doc.py writes it anew"


def test_every_metric_is_listed_and_no_other() -> None:
    reducer = ReducerMetrics(_Front())  # type: ignore[arg-type]
    combiner = CombinerMetrics(lambda: Measured(UpdateCounts(), 0, 0, (HELD, replace(HELD, name="parts"))))
    families = [*reducer.collect(), *combiner.collect()]
    endings = {"counter": "_total", "info": "_info"}
    there = {family.name + endings.get(family.type, "") for family in families}
    there |= {"fedn_http_requests_total", "fedn_http_request_duration_seconds"}
    section = DOC.read_text(encoding="utf-8").partition("## Prometheus\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"`(fedn_\w+)`", section)) == there


HELD = Gauge("clients", 1, 2, 3)


class _Front:
    """A reducer that has nothing yet."""

    state = SimpleNamespace(sessions=tuple)
    hub = SimpleNamespace(recent=tuple)

    def network(self) -> NetworkView:
        return NetworkView(1, ())

    def ready(self) -> str:
        return ""


if __name__ == "__main__":
    text = DOC.read_text(encoding="utf-8")
    for one in TIERS:
        [found] = block(one).findall(text)
        opening = f"<!-- settings of the {one} -->\n"
        text = text.replace(opening + found, opening + listed(one) + "\n", 1)
    DOC.write_text(text, encoding="utf-8")
