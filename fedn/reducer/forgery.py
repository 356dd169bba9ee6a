"""That a write asked for by a browser was asked for by a page of ours, and not by another site's.

Every page carries a token in its head, and its scripts send it back with every write. It is bound to the
login, and good for one life of the reducer. This stands beside the Origin check and the SameSite cookie.
"""

from __future__ import annotations

import secrets

from itsdangerous import Signer

from fedn.domain.errors import Conflict

HEADER = "Fedn-Csrf"
"""Where scripts put the token; a plain form has it in the field ``csrf``."""


class StalePage(Conflict):
    """The page is older than the login or than this reducer. Nothing was done."""

    code = "stale_page"


class PageTokens:
    """Makes and checks the tokens of one reducer process."""

    def __init__(self) -> None:
        self._signer = Signer(secrets.token_bytes(32), salt="page")

    def of(self, login: str) -> str:
        """For pages that are shown to the browser with this login cookie; '' where nobody logs in."""
        return self._signer.get_signature(login).decode()

    def check(self, login: str, token: str) -> None:
        """Raises StalePage."""
        if not token.isascii() or not self._signer.verify_signature(login, token):
            raise StalePage(
                "this page is older than the reducer's last start or than this login, so nothing was done; "
                "load the page anew and do it again"
            )
