"""`fedn.Network`: a network as its people use it, from a script or a notebook."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

from fedn.domain.errors import Damaged, InvalidInput, Unavailable
from fedn.domain.identity import parse_token
from fedn.domain.plan import plan_from
from fedn.packages.archive import inspect
from fedn.packages.packing import survey
from fedn.sdk import transfers
from fedn.sdk.access import read_token
from fedn.sdk.http import Reducer, session_named
from fedn.sdk.seeds import MAX_BYTES, Source, gathered
from fedn.sdk.session import Session
from fedn.sdk.terminal import transfer
from fedn.sdk.transfers import Told

URL, CA_BUNDLE = "FEDN_URL", "FEDN_CA_BUNDLE"
DEFAULT_URL = "http://127.0.0.1:8090"
LOOK_SECONDS = 0.2
DIGEST = re.compile("[0-9a-f]{64}")


class Network:
    """A network: who is there, its models, packages and sessions. Close it, or use it in a ``with``.

        network = fedn.Network("https://reducer.example.org:8090", token_file="ada.token")
        session = network.start(model=my_keras_model, rounds=10, min_clients=3)
        session.wait()
        session.load_into(my_keras_model)

    Raises errors of `fedn.domain.errors` only: Unavailable while the reducer does not answer, Unauthenticated
    where it is not the token's network or the token is not valid, Forbidden where its role may not.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        token_file: str | os.PathLike[str] | None = None,
        ca_bundle: str | os.PathLike[str] | None = None,
    ) -> None:
        """Find the reducer's authority, if it is at https://; a plain one is not asked yet.

        Args:
            url: its address, else that in FEDN_URL, else http://127.0.0.1:8090.
            token: your token's text; it is never shown again by this object, and sent over https alone.
            token_file: the file with it, else that in FEDN_TOKEN_FILE; FEDN_TOKEN may hold the text itself.
            ca_bundle: PEM file of authorities to trust instead of the network's own, else FEDN_CA_BUNDLE.

        Raises:
            InvalidInput: what is given is no address or token.
        """
        if token is not None and token_file is not None:
            raise InvalidInput("token", "is given beside token_file", "leave one of the two out")
        self.url = url or os.environ.get(URL) or DEFAULT_URL
        shown = _token(token, token_file)
        self.ca_bundle = os.fspath(ca_bundle) if ca_bundle is not None else os.environ.get(CA_BUNDLE, "")
        self._reducer = Reducer(self.url, shown, self.ca_bundle)

    def __repr__(self) -> str:
        return f"<fedn.Network at {self.url}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of its connections. What runs on the network runs on."""
        self._reducer.close()

    # --- looking ---------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Combiners with their clients, gauges, sessions; under "reducer" whether it is ready, or why not."""
        network = self._reducer.get("/network")
        sessions = self.sessions()
        try:
            self._reducer.get("/readyz")
            reason = ""
        except Unavailable as error:
            reason = error.message
        about = {"url": self.url, "ready": not reason, "reason": reason}
        return {"reducer": about, **network, "sessions": sessions}

    def clients(self) -> list[dict[str, Any]]:
        """The attached clients: client (its id), name, and the combiner it is at."""
        found: list[dict[str, Any]] = self._reducer.get("/clients")["clients"]
        return found

    def sessions(self) -> list[dict[str, Any]]:
        """What is known of every session, newest first; `session` gives one to work with."""
        found: list[dict[str, Any]] = self._reducer.get("/sessions")["sessions"]
        return found

    def models(self) -> list[dict[str, Any]]:
        """The seed models, newest first: digest, size in bytes, name, created_at (Unix time)."""
        found: list[dict[str, Any]] = self._reducer.get("/models")["models"]
        return found

    def packages(self) -> list[dict[str, Any]]:
        """The compute packages, newest first: digest, size in bytes, name, description."""
        found: list[dict[str, Any]] = self._reducer.get("/packages")["packages"]
        return found

    def session(self, session: str) -> Session:
        """A session by its id, any beginning or end of it, or its name, that no other has.

        Raises:
            NotFound, InvalidInput: there is none, or several.
        """
        return Session(self._reducer, session_named(self._reducer, session, "network.sessions()"))

    def wait_for(self, clients: int | Collection[str], seconds: float = 600.0) -> None:
        """Wait until so many clients, or those of these names or ids, are attached.

        Raises:
            Unavailable: naming who is missing, after ``seconds``.
        """
        until = time.monotonic() + seconds
        while missing := self._missing(clients):
            if time.monotonic() > until:
                raise Unavailable(f"not attached to {self.url} after {seconds:g} s: {missing}")
            time.sleep(LOOK_SECONDS)

    # --- acting ----------------------------------------------------------------------------------------

    def seed(
        self,
        model: Source,
        name: str = "",
        helper: str = "",
        max_bytes: int = MAX_BYTES,
        progress: bool = True,
    ) -> str:
        """Upload a model to start sessions from; returns its digest. The same one again changes nothing.

        Args:
            model: a Keras, PyTorch or scikit-learn model; a dict of arrays; the path of a safetensors file;
                the http:// or https:// address of one; or a function that returns one of these. Its numbers
                must be finite.
            name: what people call it; without one what the source is called.
            helper: what makes tensors of it; without one that of its framework.
            max_bytes: of what an address leads to.
            progress: draw a bar, where somebody sees it.

        Raises:
            InvalidModel: naming what is wrong with it.
            InvalidInput: a path or address that can't be read, or too much there.
        """
        with _bars(progress) as bar, gathered(model, helper, max_bytes, bar("downloading")) as found:
            called = (name or found.name)[:200]
            info = transfers.upload(
                self._reducer, found.file, found.size, found.where, called, bar(f"seeding {called}")
            )
        return str(info["digest"])

    def upload_package(self, path: str | os.PathLike[str], progress: bool = True) -> str:
        """Upload a compute package, a folder or an archive, once it is checked; returns its digest.

        Raises:
            InvalidInput: naming what is wrong with it.
        """
        size, chunks = _packed(Path(path))
        hasher = sha256()
        with _bars(progress) as bar:
            sent = _told(chunks, size, bar(f"uploading {Path(path).name}"))
            info = self._reducer.upload("/packages", transfers.hashing(hasher, sent), size)
        if info["digest"] != hasher.hexdigest():
            raise Damaged(f"the reducer has stored other bytes, with digest {info['digest']}; try again")
        return str(info["digest"])

    def start(
        self,
        model: Source | None = None,
        package: str | os.PathLike[str] = "",
        rounds: int | None = None,
        name: str = "",
        wait: bool = False,
        progress: bool = True,
        **plan: Any,
    ) -> Session:
        """Start a session. It waits by itself for clients, if there are too few.

        Args:
            model: the digest of a seed model, or what `seed` takes; None for the newest seed model.
            package: the digest of a compute package, or the path of one to upload; '' where clients run apps
                of their own.
            rounds: how many to commit.
            name: what people call it.
            wait: return when it has ended, and draw it meanwhile.
            progress: draw bars, where somebody sees them.
            plan: other fields of the compute plan (`fedn session start --help`), such as ``min_clients=3`` or
                ``config={"lr": 0.1}``.

        Raises:
            InvalidPlan: naming the field, before anything is uploaded.
            InvalidInput, InvalidModel: as `seed` and `upload_package`.
        """
        given = {**plan, **({} if rounds is None else {"rounds": rounds})}
        plan_from(given)
        if package:
            given["package"] = _digest(package) or self.upload_package(package, progress)
        digest = "" if model is None else _digest(model) or self.seed(model, progress=progress)
        info = self._reducer.post("/sessions", {"name": name, "model": digest, "plan": given})
        session = Session(self._reducer, info["session"])
        if wait:
            session.wait(progress=progress)
        return session

    def join_token(self, name: str) -> str:
        """The text of a new token by which one client of this name may join, within 24 hours. A secret.

        That takes the role admin. Raises Conflict where the network has no identity, and nobody is asked.
        """
        return str(self._reducer.post("/tokens", {"role": "client", "name": name})["text"])

    # --- inside ----------------------------------------------------------------------------------------

    def _missing(self, wanted: int | Collection[str]) -> str:
        there = self.clients()
        if isinstance(wanted, int):
            return f"{wanted - len(there)} of {wanted} clients" if len(there) < wanted else ""
        known = {client[key] for client in there for key in ("client", "name")}
        return ", ".join(sorted(set(wanted) - known))


def _token(text: str | None, file: str | os.PathLike[str] | None) -> str:
    if text is not None:
        return parse_token("token", text.strip()).reveal()
    return read_token(None if file is None else Path(file))


def _digest(text: object) -> str:
    """``text`` if it is a digest, else ''."""
    return text if isinstance(text, str) and DIGEST.fullmatch(text) else ""


def _packed(path: Path) -> tuple[int, Iterator[bytes]]:
    """Size and bytes of the archive that a package is, or makes; raises InvalidInput."""
    if path.is_dir():
        found = survey(path)
        return found.size, found.chunks()
    return inspect(path).size, _pieces(path)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as source:
        while piece := source.read(transfers.CHUNK):
            yield piece


def _told(chunks: Iterator[bytes], size: int, told: Told) -> Iterator[bytes]:
    sent = 0
    for chunk in chunks:
        yield chunk
        sent += len(chunk)
        told(sent, size)


@contextmanager
def _bars(progress: bool) -> Iterator[Callable[[str], Told]]:
    """Makes bars by what they are of; each is seen from its first byte on."""
    with transfer(quiet=not progress) as drawn:

        def bar(what: str) -> Told:
            task = drawn.add_task(what, total=None, visible=False)
            return lambda done, total: drawn.update(task, completed=done, total=total or None, visible=True)

        yield bar
