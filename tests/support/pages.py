"""What browser tests wait for on any page of the reducer."""

from __future__ import annotations

import re
import shutil
from typing import Any


def chromium_path() -> str | None:
    """The Chromium of this machine; None if it has none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


def live(page: Any) -> None:
    """Wait until the page follows the reducer's events."""
    from playwright.sync_api import expect

    expect(page.locator("#link")).to_have_text(re.compile("^live"))
