"""What browser tests do and wait for on any page of the reducer."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fedn
from fedn.sandbox.processes import Sandbox

AXE_RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
OFTEN = 150
"""Presses of the Tab key after which a field counts as out of reach."""


def chromium_path() -> str | None:
    """The Chromium of this machine; None if it has none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


def live(page: Any) -> None:
    """Wait until the page follows the reducer's events."""
    from playwright.sync_api import expect

    expect(page.locator("#link")).to_have_text(re.compile("^live"))


def look_at(page: Any, where: str) -> None:
    """A page that follows the events, with its charts, is as `audit` wants it."""
    live(page)
    if page.locator("#curve:visible, #compared").count():
        charts(page)
    audit(page, where)


def audit(page: Any, where: str) -> None:
    """One head line, nothing beside the screen, no fault that axe calls grave."""
    from axe_playwright_python.sync_playwright import Axe

    assert page.locator("h1").count() == 1
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0, f"{wide} pixels stick out: {where}"
    found = Axe().run(page, options=AXE_RULES).response["violations"]
    grave = [one for one in found if one["impact"] in ("serious", "critical")]
    assert not grave, "\n".join(
        f"{where}: {one['id']}: {one['help']}: {node['html'][:200]}"
        for one in grave for node in one["nodes"][:5]
    )  # fmt: skip


def charts(page: Any) -> None:
    """Wait until a chart is drawn."""
    from playwright.sync_api import expect

    expect(page.locator(".chart.js-plotly-plot").first).to_be_visible()


def mark(page: Any) -> Callable[[], bool]:
    """Put a mark on the page; returns whether it is still there, so that nothing was loaded anew."""
    page.evaluate("window.__mark = 1")
    return lambda: bool(page.evaluate("window.__mark === 1"))


def forgive(view: Any, *words: str) -> None:
    """Errors with one of the words are what a test brings about on purpose, however late they are told of."""
    view.forgiven.extend(words)


def tab_to(page: Any, selector: str) -> Any:
    """Press Tab until the element has the focus; returns it."""
    wanted = page.locator(selector)
    for _ in range(OFTEN):
        page.keyboard.press("Tab")
        if wanted.evaluate("one => one === document.activeElement"):
            return wanted
    raise AssertionError(f"{selector} is not reached by the Tab key")


def newest_round(page: Any) -> int:
    """The newest round in a session page's table; 0 if there is none."""
    first = page.locator("#rounds tbody tr:first-child td:first-child")
    return int(first.inner_text().replace(",", "")) if first.count() else 0


def later_rounds(page: Any, more: int = 2) -> None:
    """Wait until the session's page has so many more rounds than now."""
    wanted = newest_round(page) + more
    page.wait_for_function(
        """wanted => {
          const first = document.querySelector("#rounds tbody tr:first-child td:first-child");
          return first && Number(first.textContent.replaceAll(",", "")) >= wanted;
        }""",
        arg=wanted,
    )


@dataclass
class Gates:
    """A sandbox, mostly of `held_digits.py`, and which of its clients may train."""

    sandbox: Sandbox
    folder: Path
    network: fedn.Network

    def open(self, *names: object) -> None:
        """These clients (by index, or "all") may train, no others."""
        for name in names:
            (self.folder / f"gate-{name}").touch()
        for gate in self.folder.glob("gate-*"):
            if gate.name not in {f"gate-{name}" for name in names}:
                gate.unlink()

    def gauge(self, name: str) -> int:
        """What a gauge of the reducer stands at."""
        [value] = [one["value"] for one in self.network.status()["gauges"] if one["name"] == name]
        return int(value)
