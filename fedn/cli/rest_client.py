"""The reducer's REST API as commands use it: with the token of a file, and sentences that name flags."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fedn.domain.errors import InvalidInput, NotFound
from fedn.sdk import http
from fedn.sdk.access import Names, read_token
from fedn.sdk.http import only

if TYPE_CHECKING:
    from fedn.cli.options import Where

FLAGS = Names("--reducer", "--token-file")


def connect(at: Where) -> Reducer:
    """The reducer that a command was told of, shown the token that it was given."""
    return Reducer(at.url, read_token(at.token_file, names=FLAGS), at.ca_bundle)


class Reducer(http.Reducer):
    """A reducer at ``url``; finds what a command's argument means."""

    def __init__(self, url: str, token: str = "", ca_bundle: str = "") -> None:
        super().__init__(url, token, ca_bundle, FLAGS)

    def session(self, text: str) -> str:
        """The id of the session that ``text`` names: its id, a part of it, or its name if no other has it.

        Raises NotFound, and InvalidInput with the ids where several are meant.
        """
        sessions = self.get("/sessions")["sessions"]
        if any(item["session"] == text for item in sessions):
            return text
        named = [item for item in sessions if item["name"] == text]
        if len(named) > 1:
            some = ", ".join(f"{item['session']} ({item['state']})" for item in named[:5])
            problem = f"{len(named)} sessions are named {text!r}: {some}{', …' if len(named) > 5 else ''}"
            raise InvalidInput("session", problem, "give the id of the one you mean, or the end of it")
        if named:
            return str(named[0]["session"])
        return only("session", text, [item["session"] for item in sessions], "fedn session list")

    def model(self, text: str) -> str:
        """The digest of a stored model, a round's too, that ``text`` is, or alone begins or ends with it.

        Or that of the seed model with this name, if no other has it. Raises NotFound, and InvalidInput where
        several are meant.
        """
        if re.fullmatch(r"[0-9a-f]{64}", text):
            return text
        named = [item["digest"] for item in self.get("/models")["models"] if item["name"] == text]
        if len(named) > 1:
            some = ", ".join([*(digest[:16] for digest in named[:3]), *["…"][: len(named) > 3]])
            problem = f"{len(named)} models are named {text!r} ({some})"
            raise InvalidInput("model", problem, "give the digest of the one you mean")
        if named:
            return str(named[0])
        found = []
        if re.fullmatch(r"[0-9a-f]{1,63}", text.lower()):
            found = [item["digest"] for item in self.get("/models", digest=text.lower())["models"]]
        if not found:
            where = "`fedn model list` shows seed models, `fedn trail show SESSION` those of rounds"
            raise NotFound(f"There is no model {text[:80]!r}. {where}.", model=text)
        return only("model", text.lower(), found, "fedn model list")

    def best(self, session: str, remedy: str, metric: str = "", direction: str = "") -> str:
        """The digest of the session's best model. Raises NotFound with ``remedy`` if none was measured."""
        try:
            return str(self.get(f"/sessions/{session}/best", metric=metric, direction=direction)["model"])
        except NotFound as error:
            raise NotFound(f"{error.message}; {remedy}", **error.details) from None

    def package(self, text: str) -> str:
        """The digest of a package that ``text`` is, or begins or ends; or of the newest with that name."""
        if re.fullmatch(r"[0-9a-f]{64}", text):
            return text
        packages = self.get("/packages", limit=1000)["packages"]
        named = [item["digest"] for item in packages if item["name"] == text]
        if named:
            return str(named[0])
        return only("package", text.lower(), [item["digest"] for item in packages], "fedn package list")


__all__ = ["FLAGS", "Reducer", "connect", "only"]
