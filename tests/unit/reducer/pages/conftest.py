"""How tests look at pages."""

from __future__ import annotations

import pytest

SITE = "https://fl.example.org"
EVIL = "<script>alert(1)</script>"


@pytest.fixture
def browse(net):
    """What a role sees: ``browse("/network", "viewer")``, with the status that is expected."""
    app = net.app()

    def seen(address, role="operator", status=200, **headers):
        headers["Authorization"] = f"Bearer {net.token(role)}"
        answer = app.test_client().get(address, base_url=SITE, headers={"Accept": "text/html"} | headers)
        text = answer.get_data(as_text=True)
        assert answer.status_code == status, text[:2000]
        assert EVIL not in text
        return text

    return seen


@pytest.fixture
def evil():
    """A name that is a script where it is not escaped; `browse` looks for it on every page."""
    return EVIL
