"""The one shape of an error in the REST API, which every test of a route looks at alike."""

from __future__ import annotations

from typing import Any

from fedn.domain.ids import PROTOCOL_VERSION


def assert_error(answer: Any, status: int, code: str | None = None) -> dict[str, Any]:
    """The one shape, on every route."""
    assert answer.status_code == status, answer.get_data(as_text=True)
    assert answer.mimetype == "application/json"
    body: dict[str, Any] = answer.get_json()
    assert set(body) == {"code", "error", "details", "status"}
    assert body["status"] == status
    assert isinstance(body["details"], dict)
    assert body["error"]
    assert code is None or body["code"] == code
    assert answer.headers["Fedn-Protocol"] == str(PROTOCOL_VERSION)
    return body
