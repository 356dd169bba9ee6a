"""docs/operations.md lists every setting as it is; this file, run with Python, writes the lists anew."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from fedn.config import TIERS

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


if __name__ == "__main__":
    text = DOC.read_text(encoding="utf-8")
    for one in TIERS:
        [found] = block(one).findall(text)
        opening = f"<!-- settings of the {one} -->\n"
        text = text.replace(opening + found, opening + listed(one) + "\n", 1)
    DOC.write_text(text, encoding="utf-8")
