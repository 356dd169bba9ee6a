"""The reducer's REST API as commands use it: with the token of a file, and sentences that name flags."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fedn.sdk import http
from fedn.sdk.access import Names, read_token
from fedn.sdk.http import only, session_named

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
        """The id of the session that ``text`` names: its id, a part of it, or its name if no other has it."""
        return session_named(self, text, "fedn session list")

    def model(self, text: str) -> str:
        """The digest that ``text`` is, or is the only beginning or end of."""
        if re.fullmatch(r"[0-9a-f]{64}", text):
            return text
        digests = [item["digest"] for item in self.get("/models")["models"]]
        heads = [item["head"]["model"] for item in self.get("/sessions")["sessions"]]
        return only("model", text.lower(), sorted({*digests, *heads}), "fedn model list")

    def package(self, text: str) -> str:
        """The digest of a package that ``text`` is, or begins or ends; or of the newest with that name."""
        if re.fullmatch(r"[0-9a-f]{64}", text):
            return text
        packages = self.get("/packages", limit=1000)["packages"]
        named = [item["digest"] for item in packages if item["name"] == text]
        if named:
            return str(named[0])
        return only("package", text, [item["digest"] for item in packages], "fedn package list")


__all__ = ["FLAGS", "Reducer", "connect", "only"]
