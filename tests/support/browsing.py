"""What a browser sends with a write: where its page is from, and the token that is in the page."""

from __future__ import annotations

import re
from typing import Any

from werkzeug.test import Client


def own(http: Client, site: str, **headers: str) -> dict[str, str]:
    """Headers of a write from a page of ours that this client has loaded."""
    answer: Any = http.get("/login", headers={"Accept": "text/html"})
    if answer.status_code != 200:  # logged in already
        answer = http.get("/people", headers={"Accept": "text/html"})
    found = re.search(r'data-token="([^"]*)"', answer.get_data(as_text=True))
    assert found, answer.get_data(as_text=True)[:500]
    return {"Origin": site, "Fedn-Csrf": found[1], **headers}
